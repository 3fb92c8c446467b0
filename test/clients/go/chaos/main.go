// The clients of `npm run chaos`: plain publishers and consumers, many in one process, so that one journal has the order in which
// everything happened. Commands come as lines of JSON on standard input; its end ends the process. The journal goes to
// standard output, a line of JSON for each event (journal.go).
//
// None of them has a client id or resumes anything: what an ordinary client does that knows nothing of Fanfare but its proto.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"fanfareclient/link"
)

type command struct {
	Do           string          `json:"do"`
	Name         string          `json:"name"`
	Topic        string          `json:"topic"`
	Subscription string          `json:"subscription"`
	Addresses    []string        `json:"addresses"`
	CA           string          `json:"ca"`
	Cert         string          `json:"cert"`
	Key          string          `json:"key"`
	Seed         uint64          `json:"seed"`
	Event        json.RawMessage `json:"event"`

	// publish
	Keys      int     `json:"keys"`
	PerSecond float64 `json:"perSecond"`
	Bytes     int     `json:"bytes"`

	// consume
	Pulls bool    `json:"pulls"`
	Nacks float64 `json:"nacks"`
}

const commandBytes = 1 << 20

func main() {
	log := newJournal(os.Stdout)
	defer log.flush()
	obey(log)
}

// obey starts and stops clients as it is told, until standard input ends.
func obey(log *journal) {
	running := map[string]context.CancelFunc{}
	var all sync.WaitGroup
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, commandBytes)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			fail("bad command: %v", err)
		}
		start := func(run func(context.Context, command, *brokers, *journal)) {
			at, err := newBrokers(c)
			if err != nil {
				fail("%v", err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			running[c.Name] = cancel
			all.Add(1)
			go func() {
				defer all.Done()
				run(ctx, c, at, log)
			}()
		}
		switch {
		case c.Do == "note":
			log.note(c.Event)
		case c.Do == "publish":
			start(publish)
		case c.Do == "consume" && c.Pulls:
			start(pull)
		case c.Do == "consume":
			start(consume)
		case c.Do == "stop" && running[c.Name] != nil:
			running[c.Name]()
		default:
			fail("unknown command %s", lines.Bytes())
		}
	}
	for _, stop := range running {
		stop()
	}
	all.Wait()
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "chaosclient: "+format+"\n", values...)
	os.Exit(2)
}

// brokers is where a client may connect: it stays with one of them as long as that one answers.
type brokers struct {
	addresses []string
	at        int
	secured   credentials.TransportCredentials
	open      *grpc.ClientConn
}

func newBrokers(c command) (*brokers, error) {
	secured, err := link.Credentials(c.CA, c.Cert, c.Key)
	if err != nil {
		return nil, err
	}
	return &brokers{addresses: c.Addresses, at: int(c.Seed % uint64(len(c.Addresses))), secured: secured}, nil
}

// connection is the open one, or a new one to the next broker.
func (b *brokers) connection() (*grpc.ClientConn, error) {
	if b.open != nil {
		return b.open, nil
	}
	b.at = (b.at + 1) % len(b.addresses)
	opened, err := link.Open(b.addresses[b.at], b.secured,
		// A broker that stands still answers nothing, for ever.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.DefaultConfig, MinConnectTimeout: 3 * time.Second,
		}))
	b.open = opened
	return opened, err
}

// leave makes the next connection go to the next broker.
func (b *brokers) leave() {
	if b.open != nil {
		b.open.Close()
		b.open = nil
	}
}

// rest waits a moment, and returns whether to go on.
func rest(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}
