package main

// stalls are bugs in stalling disks and leaders that hand over; they have the numbers from 500.
var stalls []mutant
