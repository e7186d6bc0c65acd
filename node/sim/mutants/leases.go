package main

// leases are bugs in leases, drift and transfer; they have the numbers from 400.
var leases []mutant
