package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const dissector = "../docs/balsa.lua"

// pcap is a capture of datagrams over UDP over IPv4, as tcpdump would have written it.
func pcap(datagrams [][]byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	b = binary.LittleEndian.AppendUint32(b, 2|4<<16)
	b = append(b, make([]byte, 8)...)
	b = binary.LittleEndian.AppendUint32(b, 1<<18)
	b = binary.LittleEndian.AppendUint32(b, 101) // raw IP
	for i, d := range datagrams {
		n := 28 + len(d)
		for _, v := range []int{i, 0, n, n} {
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		}
		ip := []byte{0x45, 0, byte(n >> 8), byte(n), 0, 0, 0x40, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1}
		udp := []byte{0x1b, 0xbd, 0x1b, 0xbe, byte((n - 20) >> 8), byte(n - 20), 0, 0}
		b = append(append(append(b, ip...), udp...), d...)
	}
	return b
}

// Every kind of frame that we name is in the dissector, under its number and name.
func TestTheDissectorKnowsEveryFrame(t *testing.T) {
	text, err := os.ReadFile(dissector)
	if err != nil {
		t.Fatal(err)
	}
	known := 0
	for k := range 256 {
		name := Kind(k).String()
		if strings.HasPrefix(name, "kind-") {
			continue
		}
		known++
		if want := fmt.Sprintf("[%d] = { name = %q", k, name); !strings.Contains(string(text), want) {
			t.Errorf("no line with %s", want)
		}
	}
	if known < 20 {
		t.Errorf("%d kinds: this test looks at nothing", known)
	}
}

// tshark runs the dissector, if this machine has it.
func tshark(t *testing.T, datagrams [][]byte, args ...string) string {
	t.Helper()
	program, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("tshark is not installed here: the dissector is only checked for its list of frames")
	}
	capture := filepath.Join(t.TempDir(), "capture.pcap")
	if err := os.WriteFile(capture, pcap(datagrams), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, append([]string{"-n", "-X", "lua_script:" + dissector, "-r", capture}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil || strings.Contains(errs.String(), "Lua") {
		t.Fatalf("tshark: %v: %s", err, errs.String())
	}
	return string(out)
}

// datagramsOfAll is a datagram for each sample, and one with several.
func datagramsOfAll() (all [][]byte, names []string) {
	p := Packer{Limit: MaxDatagram, Header: Header{Cluster: 0xc0ffee, Src: 1, Dst: 2, Incarnation: 3, Boot: 4}}
	for _, s := range samples() {
		if s.kind == 0 {
			all, names = append(all, encode(s.frame)), append(names, s.name)
			continue
		}
		s.frame.Encode(p.Frame(s.kind, s.frame.Size()))
		for _, d := range p.Flush(netip.AddrPort{}, nil) {
			all, names = append(all, d.Bytes), append(names, s.kind.String())
		}
	}
	_, clients := testKeys(3)
	all, names = append(all, sealed(sealing1(clients, fromClient))), append(names, "sealed")
	for _, s := range samples()[:3] {
		s.frame.Encode(p.Frame(s.kind, s.frame.Size()))
	}
	for _, d := range p.Flush(netip.AddrPort{}, nil) {
		all, names = append(all, d.Bytes), append(names, "append, append, ack")
	}
	return all, names
}

func TestTsharkReadsEveryFrame(t *testing.T) {
	all, names := datagramsOfAll()
	lines := strings.Split(strings.TrimSpace(tshark(t, all, "-T", "fields", "-e", "_ws.col.Protocol", "-e", "_ws.col.Info", "-e", "balsa.malformed")), "\n")
	if len(lines) != len(all) {
		t.Fatalf("%d lines for %d datagrams", len(lines), len(all))
	}
	for i, line := range lines {
		want := "balsa\t1 -> 2  " + names[i]
		if names[i] == "mismatch" {
			want = "balsa\twe speak version 1, not 9"
		}
		if names[i] == "mismatch-two" {
			want = "balsa\twe speak versions 2 to 3, not 1"
		}
		if names[i] == "mismatch-key" {
			want = "balsa\twe do not hold that key"
		}
		if names[i] == "sealed" {
			want = "balsa\tclient -> 2  sealed"
		}
		if strings.TrimRight(line, "\t") != want {
			t.Errorf("datagram %d: got %q, want %q", i, line, want)
		}
	}
	full := tshark(t, all, "-V")
	for _, want := range []string{
		"Cluster tag: 0x00c0ffee", "Term: 3", "Entry 8, commands", "Entry 9, no-op", "Reject: 1", "Held, second word: 0x8000000000000000",
		"Address: 127.0.0.1:7101", "Member 7", "Sequence number: 2", "Role: leader (4)", "Role: removed (6)", "Removed: 1", "Verb: add (1)", "Text: done", "Stride: 256", "Packet number: 1",
	} {
		if !strings.Contains(full, want) {
			t.Errorf("nothing says %q", want)
		}
	}
	if strings.Contains(full, "Lua Error") || strings.Contains(full, "Malformed") {
		t.Errorf("it stumbled:\n%s", full)
	}
}

// Cut and flipped datagrams make it say so, not stumble.
func TestTsharkSurvivesBrokenDatagrams(t *testing.T) {
	all, _ := datagramsOfAll()
	var broken [][]byte
	for _, d := range all {
		for _, n := range []int{15, 16, 63, 64, 72, 80, 100, len(d) - 8} {
			if n < len(d) {
				cut := append([]byte(nil), d[:n]...)
				broken = append(broken, cut)
				if n > 64 { // a body that ends early, and says so
					short := append([]byte(nil), cut...)
					le.PutUint16(short[14:], uint16(n-64))
					broken = append(broken, short)
				}
			}
		}
		for at := 48; at < len(d)-16; at += 3 {
			flipped := append([]byte(nil), d...)
			flipped[at] ^= 0xff
			broken = append(broken, flipped)
		}
	}
	out := tshark(t, broken, "-V")
	if strings.Contains(out, "Lua Error") {
		i := strings.Index(out, "Lua Error")
		t.Errorf("it stumbled: %s", out[i:min(len(out), i+300)])
	}
	if !strings.Contains(out, "Not laid out as version 1 is") && !strings.Contains(out, "bytes, want") {
		t.Error("it found nothing wrong with any")
	}
}
