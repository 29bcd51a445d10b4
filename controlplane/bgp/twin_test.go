package bgp

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"godwit/cluster/wire"
	"godwit/controlplane/bgp/bgptest"
	"godwit/event"
)

// The test binary, started in a namespace with twinEnv set, is a speaker that
// talks frames over standard input and output instead of bus sessions.
const twinEnv = "GODWIT_BGP_TEST_SPEAKER"

// frame is one message: length 4, kind 2, id 4, reply 1, body.
type frame struct {
	kind  wire.Kind
	id    uint32
	reply bool
	body  []byte
}

func writeFrame(w io.Writer, f frame) error {
	h := make([]byte, 11, 11+len(f.body))
	binary.BigEndian.PutUint32(h, uint32(len(f.body)))
	binary.BigEndian.PutUint16(h[4:], uint16(f.kind))
	binary.BigEndian.PutUint32(h[6:], f.id)
	if f.reply {
		h[10] = 1
	}
	_, err := w.Write(append(h, f.body...))
	return err
}

func readFrame(r io.Reader) (frame, error) {
	var h [11]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return frame{}, err
	}
	f := frame{kind: wire.Kind(binary.BigEndian.Uint16(h[4:])), id: binary.BigEndian.Uint32(h[6:]), reply: h[10] == 1}
	f.body = make([]byte, binary.BigEndian.Uint32(h[:]))
	_, err := io.ReadFull(r, f.body)
	return f, err
}

// frameClient is the speaker's side of the frames.
type frameClient struct{ out chan<- frame }

func (c *frameClient) Send(k wire.Kind, body []byte) error {
	c.out <- frame{kind: k, body: body}
	return nil
}

func (c *frameClient) SendJSON(k wire.Kind, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.Send(k, b)
}

// reconnect is a frame that stands for the end of the session and a new one.
const reconnect wire.Kind = 9999

// speakerMain is the speaker process.
func speakerMain(dir string) error {
	if name := os.Getenv("GODWIT_BGP_TEST_PROFILE"); name != "" {
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	loop := event.New("bgp")
	s := NewSpeaker(loop, Options{Tuner: NewTuner(), VRF: "red", RunDir: dir, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Module: wire.ModuleInfo{Name: "bgp-red", PID: os.Getpid()}})
	ctx, cancel := context.WithCancel(context.Background())
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, syscall.SIGTERM)
	h := loop.Handler("test", event.High)
	go func() {
		<-sigs
		_ = h.Post(func() { s.Farewell(cancel) })
	}()
	out := make(chan frame, 1<<16)
	go func() {
		w := bufio.NewWriterSize(os.Stdout, 1<<17)
		for f := range out {
			if writeFrame(w, f) != nil || len(out) == 0 && w.Flush() != nil {
				return
			}
		}
	}()
	go func() {
		c := &frameClient{out}
		for in := bufio.NewReader(os.Stdin); ; {
			f, err := readFrame(in)
			if err != nil {
				return
			}
			_ = h.Post(func() {
				if f.kind == reconnect {
					s.Lost(c)
					c = &frameClient{out}
					return
				}
				s.Handle(c, f.kind, f.body, func(v any, err error) {
					r := frame{kind: f.kind, id: f.id, reply: true}
					if err != nil {
						r.kind, v = wire.Error, wire.ErrorBody{Error: err.Error()}
					}
					if f.id == 0 {
						return
					}
					r.body, _ = json.Marshal(v)
					out <- r
				})
			})
		}
	}()
	_ = loop.Run(ctx)
	return nil
}

// twin is a small routing engine: it keeps the routes, acknowledges, and
// remembers what it was told.
type twin struct {
	t    *testing.T
	proc *bgptest.Proc
	in   io.WriteCloser

	mu      sync.Mutex
	routes  map[netip.Prefix][]wire.RoutePath
	lastSeq uint64
	batches int
	changes int
	synced  int // RoutesSynced received
	peers   map[netip.Addr]wire.PeerStatus
	history []string // peer states in order
	replies map[uint32]frame
	nextID  uint32
	hold    bool // do not acknowledge
	bad     string
	lastRx  time.Time
}

// startTwin starts a speaker in the namespace with a twin to talk to.
func startTwin(t *testing.T, n *bgptest.Net, s *bgptest.Space, env ...string) *twin {
	t.Helper()
	cmd := s.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(append(os.Environ(), twinEnv+"="+n.Dir()), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = pw
	w := &twin{t: t, in: in, routes: map[netip.Prefix][]wire.RoutePath{}, peers: map[netip.Addr]wire.PeerStatus{}, replies: map[uint32]frame{}}
	w.proc, err = n.Start(cmd, "speaker")
	if err != nil {
		t.Fatal(err)
	}
	_ = pw.Close()
	read := make(chan struct{})
	go func() { defer close(read); w.read(pr) }()
	t.Cleanup(func() {
		w.proc.Kill()
		<-read
		_ = pr.Close()
		if t.Failed() {
			t.Logf("speaker's log:\n%s", tail(w.proc.Log(), 60))
		}
		if strings.Contains(w.proc.Log(), "panic") {
			t.Error("the speaker panicked")
		}
	})
	return w
}

func tail(s string, n int) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (w *twin) read(r io.Reader) {
	for in := bufio.NewReaderSize(r, 1<<17); ; {
		f, err := readFrame(in)
		if err != nil {
			return
		}
		w.mu.Lock()
		w.take(f)
		w.mu.Unlock()
	}
}

// path is the first path of a prefix, which must have one.
func (w *twin) path(p string) wire.RoutePath {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.routes[prefix(p)][0]
}

func (w *twin) take(f frame) {
	switch {
	case f.reply:
		w.replies[f.id] = f
	case f.kind == wire.RouteBatch:
		b, err := wire.DecodeRouteBatch(f.body)
		if err != nil || b.Seq != w.lastSeq+1 {
			w.bad = fmt.Sprintf("batch %d after %d: %v", b.Seq, w.lastSeq, err)
			return
		}
		w.lastSeq = b.Seq
		w.batches++
		w.changes += len(b.Changes)
		w.lastRx = time.Now()
		for _, c := range b.Changes {
			if len(c.Paths) == 0 {
				delete(w.routes, c.Prefix)
			} else {
				w.routes[c.Prefix] = c.Paths
			}
		}
		if !w.hold {
			w.write(frame{kind: wire.RouteAck, body: fmt.Appendf(nil, `{"seq":%d}`, b.Seq)})
		}
	case f.kind == wire.RoutesSynced:
		w.synced++
	case f.kind == wire.PeerEvent:
		var p wire.PeerStatus
		if err := wire.Decode(f.body, &p); err != nil {
			w.bad = err.Error()
			return
		}
		w.peers[p.Address] = p
		w.history = append(w.history, p.Address.String()+" "+p.State)
	default:
		w.bad = "unexpected " + f.kind.String()
	}
}

func (w *twin) write(f frame) { _ = writeFrame(w.in, f) }

func (w *twin) send(k wire.Kind, v any) {
	w.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.write(frame{kind: k, body: b})
	w.mu.Unlock()
}

// request sends a request and waits for its answer.
func (w *twin) request(k wire.Kind, v, answer any) error {
	w.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.nextID++
	id := w.nextID
	w.write(frame{kind: k, id: id, body: b})
	w.mu.Unlock()
	var f frame
	w.until(20*time.Second, "the answer to "+k.String(), func() bool { f = w.replies[id]; return f.reply })
	if f.kind == wire.Error {
		var e wire.ErrorBody
		if err := wire.Decode(f.body, &e); err != nil {
			w.t.Fatal(err)
		}
		return fmt.Errorf("%s", e.Error)
	}
	if err := wire.Decode(f.body, answer); err != nil {
		w.t.Fatal(err)
	}
	return nil
}

// configure sends the configuration and expects it to be accepted.
func (w *twin) configure(c wire.SpeakerConfig) {
	w.t.Helper()
	if err := w.request(wire.SetSpeaker, c, &struct{}{}); err != nil {
		w.t.Fatal(err)
	}
}

// until waits for a condition on the twin's state.
func (w *twin) until(limit time.Duration, what string, cond func() bool) {
	w.t.Helper()
	ok := bgptest.Until(limit, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.bad != "" || cond()
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bad != "" {
		w.t.Fatalf("waiting for %s: %s", what, w.bad)
	}
	if !ok {
		w.t.Fatalf("no %s within %v; routes %d, peers %+v", what, limit, len(w.routes), w.peers)
	}
}

// reconnect ends the session and begins a new one, as a restarted routing
// engine does.
func (w *twin) reconnect() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.write(frame{kind: reconnect})
	w.routes, w.lastSeq, w.synced, w.hold = map[netip.Prefix][]wire.RoutePath{}, 0, 0, false
}

func (w *twin) state(peer string) string { return w.peers[netip.MustParseAddr(peer)].State }

func (w *twin) nextHop(prefix string) string {
	p := w.routes[netip.MustParsePrefix(prefix)]
	if len(p) == 0 {
		return ""
	}
	return p[0].NextHop.String()
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(twinEnv); dir != "" {
		if err := speakerMain(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}
