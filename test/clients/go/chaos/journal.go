// The journal: what was sent, answered, handled and acknowledged, in the order in which it happened. An event of something
// that is about to be done is written before it is done ("sent", "handled"), one of something that was done after it.
//
//	sent       p, topic, m: [number, ordering key] of each message of a request; once, however often it is sent
//	answered   p, m: [number, message id]
//	handled    s, c, m: [publisher, number, message id, delivery attempt]
//	told       s, c, ids: acknowledged on the stream; nobody answers that
//	confirmed  s, c, ids: acknowledged by a call that was answered
//	nacked     s, c, ids
//	error      c or p, op, code, text
//	left       c: a consumer has ended its stream, and opens another one
//	stopped    c or p: it has ended
//	…          whatever the runner notes
//
// All have t: milliseconds since the process began, by the monotonic clock.
package main

import (
	"bufio"
	"encoding/json"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/status"
)

const flushEvery = 20 * time.Millisecond

type journal struct {
	mutex sync.Mutex
	out   *bufio.Writer
	began time.Time
}

type event struct {
	Event string  `json:"ev"`
	T     float64 `json:"t"`
	P     string  `json:"p,omitempty"`
	S     string  `json:"s,omitempty"`
	C     string  `json:"c,omitempty"`
	Topic string  `json:"topic,omitempty"`
	M     [][]any `json:"m,omitempty"`
	IDs   []any   `json:"ids,omitempty"`
	Op    string  `json:"op,omitempty"`
	Code  string  `json:"code,omitempty"`
	Text  string  `json:"text,omitempty"`
}

func newJournal(to io.Writer) *journal {
	j := &journal{out: bufio.NewWriterSize(to, 1<<16), began: time.Now()}
	go func() {
		for range time.Tick(flushEvery) {
			j.flush()
		}
	}()
	return j
}

func (j *journal) write(e event) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	e.T = j.now()
	line, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	j.line(line)
}

// note writes an event of the runner's between those of the clients.
func (j *journal) note(of json.RawMessage) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	fields := map[string]any{}
	if err := json.Unmarshal(of, &fields); err != nil {
		panic(err)
	}
	fields["t"] = j.now()
	line, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	j.line(line)
}

func (j *journal) failed(who event, op string, err error) {
	s := status.Convert(err)
	who.Event, who.Op, who.Code, who.Text = "error", op, s.Code().String(), s.Message()
	j.write(who)
}

func (j *journal) flush() {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	j.out.Flush()
}

func (j *journal) line(line []byte) {
	j.out.Write(line)
	j.out.WriteByte('\n')
}

func (j *journal) now() float64 {
	return float64(time.Since(j.began).Microseconds()) / 1_000
}
