package node

import (
	"context"
	"errors"
	"net/netip"
	"testing"
)

func TestNamesAreLookedUpBesideTheLoop(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	asked, answers, told := make(chan string), make(chan error), make(chan struct{})
	here := netip.MustParseAddrPort("127.0.0.1:7")
	r := resolver{ctx: ctx, names: map[string]*name{}, told: func() { told <- struct{}{} }, lookup: func(ctx context.Context, addr string) (netip.AddrPort, error) {
		asked <- addr
		select {
		case err := <-answers:
			return here, err
		case <-ctx.Done():
			return netip.AddrPort{}, ctx.Err()
		}
	}}
	if to, err := r.resolve("10.0.0.1:99"); err != nil || to != netip.MustParseAddrPort("10.0.0.1:99") {
		t.Fatalf("a number: %v, %v", to, err)
	}
	for range 3 { // nobody waits, and one look-up is under way
		if to, err := r.resolve("a:7"); to.IsValid() || !errors.Is(err, ErrResolving) {
			t.Fatalf("%v, %v, want ErrResolving", to, err)
		}
	}
	if got := <-asked; got != "a:7" {
		t.Fatalf("asked for %q", got)
	}
	answers <- nil
	<-told
	if to, err := r.resolve("a:7"); to != here || err != nil {
		t.Fatalf("%v, %v, want %v", to, err, here)
	}
	// It is looked up again after a while; what is known stays, also when that fails.
	r.names["a:7"].at = r.names["a:7"].at.Add(-nameRefresh)
	if to, err := r.resolve("a:7"); to != here || err != nil {
		t.Fatalf("while asked again: %v, %v", to, err)
	}
	<-asked
	answers <- errors.New("nobody knows")
	<-told
	if to, err := r.resolve("a:7"); to != here || err != nil {
		t.Fatalf("after a failure: %v, %v", to, err)
	}
	// A server that stops waits for no answer.
	if _, err := r.resolve("b:7"); !errors.Is(err, ErrResolving) {
		t.Fatal(err)
	}
	<-asked
	stop()
	<-told
	r.all.Wait()
	if _, err := r.resolve("c:7"); !errors.Is(err, ErrResolving) {
		t.Fatal("a stopped server asks")
	}
	for i := range 3 * maxNames {
		r.resolve(string(rune('d'+i)) + ":7")
	}
	if len(r.names) > maxNames {
		t.Fatalf("%d names kept", len(r.names))
	}
}

func TestAnAddressIsANumberOrAName(t *testing.T) {
	for addr, want := range map[string]string{"127.0.0.1:7101": "127.0.0.1:7101", "[::1]:5": "[::1]:5", "localhost:7": "127.0.0.1:7"} {
		if to, err := lookUp(t.Context(), addr); err != nil || to.String() != want {
			t.Errorf("%s: %v, %v, want %s", addr, to, err, want)
		}
	}
	for _, addr := range []string{"", "localhost", ":x", "localhost:nosuchport"} {
		if to, err := lookUp(t.Context(), addr); err == nil {
			t.Errorf("%q: %v, want an error", addr, to)
		}
	}
}
