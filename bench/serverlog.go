package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// serverLog reads a server's log file as it grows, a JSON object a line.
type serverLog struct {
	server uint16
	path   string
	at     int64 // where the next line begins
}

// logLine is what the suite wants to know of a line.
type logLine struct {
	server  uint16
	Time    time.Time `json:"time"`
	Message string    `json:"msg"`
	Term    uint64    `json:"term"`
}

// more gives the whole lines that were added since the last call. What is no JSON, such as the last words of a program
// that panics, is left out.
func (l *serverLog) more() ([]logLine, error) {
	file, err := os.Open(l.path)
	if err != nil {
		return nil, fmt.Errorf("the log of server %d: %w", l.server, err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.NewSectionReader(file, l.at, 1<<62))
	if err != nil {
		return nil, fmt.Errorf("the log of server %d: %w", l.server, err)
	}
	var lines []logLine
	for {
		line, rest, whole := bytes.Cut(text, []byte{'\n'})
		if !whole {
			return lines, nil
		}
		l.at += int64(len(line)) + 1
		text = rest
		one := logLine{server: l.server}
		if json.Unmarshal(line, &one) == nil {
			lines = append(lines, one)
		}
	}
}
