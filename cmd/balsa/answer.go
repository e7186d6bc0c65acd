package main

import (
	"bytes"
	"encoding/base64"
	"io"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// answer is what an order gave back, before it is written as text or JSON.
type answer struct {
	word        string
	key, value  []byte
	index, term uint64
	seq         uint16
	pairs       []pair // scan
}

type pair struct{ key, value []byte }

// style says how answers are written.
type style struct {
	json     bool
	terminal bool // quote what a terminal should not be sent
	bare     bool // a value goes out byte for byte, without a newline of ours
}

type getJSON struct {
	Key         string `json:"key"`
	Value       string `json:"value"`
	Index       uint64 `json:"index"`
	Term        uint64 `json:"term"`
	KeyEncoding string `json:"key_encoding,omitempty"`
	Encoding    string `json:"encoding,omitempty"`
}

type writeAnswerJSON struct {
	Index uint64 `json:"index"`
	Term  uint64 `json:"term"`
	Seq   uint16 `json:"seq"`
}

type pairJSON struct {
	Key         string `json:"key"`
	Value       string `json:"value"`
	KeyEncoding string `json:"key_encoding,omitempty"`
	Encoding    string `json:"encoding,omitempty"`
}

func (a *answer) write(w io.Writer, s style) error {
	switch {
	case a.word == "get" && s.json:
		g := getJSON{Index: a.index, Term: a.term}
		g.Key, g.KeyEncoding = jsonText(a.key)
		g.Value, g.Encoding = jsonText(a.value)
		return writeJSON(w, g)
	case a.word == "get":
		line := forTerminal(a.value, s.terminal)
		if !s.bare {
			line = append(line[:len(line):len(line)], '\n')
		}
		_, err := w.Write(line)
		return err
	case a.word == "scan":
		return a.writePairs(w, s)
	case s.json:
		return writeJSON(w, writeAnswerJSON{a.index, a.term, a.seq})
	}
	_, err := io.WriteString(w, "OK\n")
	return err
}

func (a *answer) writePairs(w io.Writer, s style) error {
	var text bytes.Buffer
	for _, p := range a.pairs {
		if s.json {
			var j pairJSON
			j.Key, j.KeyEncoding = jsonText(p.key)
			j.Value, j.Encoding = jsonText(p.value)
			if err := writeJSON(&text, j); err != nil {
				return err
			}
			continue
		}
		text.Write(forTerminal(p.key, s.terminal))
		text.WriteByte('\t')
		text.Write(forTerminal(p.value, s.terminal))
		text.WriteByte('\n')
	}
	_, err := w.Write(text.Bytes())
	return err
}

// jsonText is bytes as a JSON string, in base64 and saying so where they are not UTF-8.
func jsonText(b []byte) (text, encoding string) {
	if utf8.Valid(b) {
		return string(b), ""
	}
	return base64.StdEncoding.EncodeToString(b), "base64"
}

// forTerminal quotes what would disturb a terminal; elsewhere bytes stay as they are.
func forTerminal(b []byte, tty bool) []byte {
	if !tty || printable(b) {
		return b
	}
	return []byte(strconv.Quote(string(b)))
}

func printable(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, r := range string(b) {
		if !unicode.IsPrint(r) && r != '\n' && r != '\t' {
			return false
		}
	}
	return true
}
