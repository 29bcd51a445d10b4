package mgmt

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"godwit/cluster/wire"
	"godwit/controlplane/config"
)

// Backend answers the requests. Functions that stream call emit for each item
// and stop with its error: the client has gone. An *Error carries its status;
// any other error is answered with 500.
type Backend struct {
	Version        func(context.Context) (Version, error)
	Modules        func(context.Context) (Modules, error)
	VRFs           func(context.Context) (VRFs, error)
	Interfaces     func(ctx context.Context, name string) (Interfaces, error)
	Routes         func(context.Context, RouteQuery, func(Route) error) error
	RouteChanges   func(context.Context, RouteChangeQuery) (RouteChanges, error)
	FIB            func(context.Context, FIBQuery, func(FIBRoute) error) error
	FIBSummary     func(context.Context) (FIBSummary, error)
	FIBConsistency func(ctx context.Context, card uint16) (FIBConsistency, error)
	FIBTrace       func(context.Context, FIBTraceQuery) (FIBTraces, error)
	Neighbors      func(context.Context, NeighborQuery) (Neighbors, error)
	ClearNeighbors func(context.Context, NeighborQuery) (Done, error)
	BGP            func(ctx context.Context, vrf string) (BGP, error)
	ResetBGP       func(context.Context, ResetQuery) (Done, error)
	Upgrade        func(context.Context, UpgradeQuery) (Done, error)
	BFD            func(ctx context.Context, vrf string) (BFD, error)
	Sampling       func(context.Context) (Sampling, error)
	Mirrors        func(context.Context) (Mirrors, error)
	Guards         func(ctx context.Context, acl string) (Guards, error)
	Bus            func(context.Context) (Bus, error)
	Security       func(context.Context) (Security, error)
	Audit          func(context.Context, wire.AuditQuery) (Audit, error)
	Events         func(ctx context.Context, module string) (Events, error)
	Trace          func(ctx context.Context, module string) (Traces, error)
	ClearEvents    func(ctx context.Context, module string) (Done, error)
	Drops          func(ctx context.Context, card uint16) (Drops, error)
	Config         func(context.Context) ([]byte, error)
	Check          func(ctx context.Context, name string, yaml []byte) (Applied, error)
	Apply          func(ctx context.Context, name string, yaml []byte) (Applied, error)
	Ping           func(context.Context, PingQuery, func(PingLine) error) error
	Capture        func(context.Context, CaptureQuery, func(Frame) error) error
}

// maxConfig bounds a configuration in bytes, as any file is bounded.
const maxConfig = config.MaxSize

// Server serves a Backend on a unix socket, and over TLS if it is told to.
type Server struct {
	http   *http.Server
	done   chan struct{}
	stop   context.CancelFunc
	log    *slog.Logger
	access atomic.Pointer[Access]
	remote *remote // owned by SetAccess
}

// Serve listens on the socket at path. Anybody may connect who can reach it;
// each request is judged by who sends it (Access; until SetAccess only root and
// the process's own user may do anything). A socket that a dead process left is replaced; one that answers is an
// error.
func Serve(path string, b Backend, log *slog.Logger) (*Server, error) {
	l, err := listen(path)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{done: make(chan struct{}), stop: stop, log: log}
	s.access.Store(&Access{})
	s.http = &http.Server{
		Handler:           guarded(routes(b), &s.access, log),
		ConnContext:       withPeer,
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("management API ended", "error", err)
		}
	}()
	return s, nil
}

func listen(path string) (net.Listener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("listen on %s: %w: another routing engine serves it", path, syscall.EADDRINUSE)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove stale socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, errors.Join(fmt.Errorf("set mode of %s: %w", path, err), l.Close())
	}
	return l, nil
}

// Close ends the requests under way and removes the socket.
func (s *Server) Close() error {
	s.stop()
	err := errors.Join(s.http.Close(), s.remote.close())
	<-s.done
	return err
}

func routes(b Backend) http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /v1/version", plain(b.Version))
	m.HandleFunc("GET /v1/modules", plain(b.Modules))
	m.HandleFunc("GET /v1/vrfs", plain(b.VRFs))
	m.HandleFunc("GET /v1/bus", plain(b.Bus))
	m.HandleFunc("GET /v1/security", plain(b.Security))
	m.HandleFunc("GET /v1/security/audit", query(parseAuditQuery, b.Audit))
	m.HandleFunc("GET /v1/fib/summary", plain(b.FIBSummary))
	m.HandleFunc("GET /v1/fib/consistency", query(oneCard, b.FIBConsistency))
	m.HandleFunc("GET /v1/fib/trace", query(parseFIBTraceQuery, b.FIBTrace))
	m.HandleFunc("GET /v1/interfaces", query(oneString("name"), b.Interfaces))
	m.HandleFunc("GET /v1/bgp", query(oneString("vrf"), b.BGP))
	m.HandleFunc("GET /v1/bfd", query(oneString("vrf"), b.BFD))
	m.HandleFunc("GET /v1/sampling", plain(b.Sampling))
	m.HandleFunc("GET /v1/mirrors", plain(b.Mirrors))
	m.HandleFunc("GET /v1/acls", query(oneString("acl"), b.Guards))
	m.HandleFunc("GET /v1/events", query(oneString("module"), b.Events))
	m.HandleFunc("DELETE /v1/events", query(oneString("module"), b.ClearEvents))
	m.HandleFunc("GET /v1/events/trace", query(oneString("module"), b.Trace))
	m.HandleFunc("GET /v1/drops", query(oneCard, b.Drops))
	m.HandleFunc("GET /v1/neighbors", query(parseNeighborQuery, b.Neighbors))
	m.HandleFunc("DELETE /v1/neighbors", query(parseNeighborQuery, b.ClearNeighbors))
	m.HandleFunc("POST /v1/bgp/reset", query(parseResetQuery, b.ResetBGP))
	m.HandleFunc("POST /v1/modules/upgrade", query(parseUpgradeQuery, b.Upgrade))
	m.HandleFunc("GET /v1/routes", stream(parseRouteQuery, b.Routes))
	m.HandleFunc("GET /v1/routes/changes", query(parseRouteChangeQuery, b.RouteChanges))
	m.HandleFunc("GET /v1/fib", stream(parseFIBQuery, b.FIB))
	m.HandleFunc("POST /v1/ping", stream(parsePingQuery, b.Ping))
	m.HandleFunc("GET /v1/config", serveConfig(b.Config))
	m.HandleFunc("POST /v1/check", takeConfig(b.Check))
	m.HandleFunc("POST /v1/apply", takeConfig(b.Apply))
	m.HandleFunc("GET /v1/capture", serveCapture(b.Capture))
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, &Error{http.StatusNotFound, "no such request: " + r.Method + " " + r.URL.Path})
	})
	return m
}

func oneString(key string) func(url.Values) (string, error) {
	return func(v url.Values) (string, error) {
		p := params{v: v}
		s := p.str(key)
		return s, p.done()
	}
}

func oneCard(v url.Values) (uint16, error) {
	p := params{v: v}
	n := p.num("card", 0, 65535)
	return uint16(n), p.done()
}

func noParams(v url.Values) (struct{}, error) {
	p := params{v: v}
	return struct{}{}, p.done()
}

func plain[T any](f func(context.Context) (T, error)) http.HandlerFunc {
	return query(noParams, func(ctx context.Context, _ struct{}) (T, error) { return f(ctx) })
}

func query[Q, T any](parse func(url.Values) (Q, error), f func(context.Context, Q) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := parse(r.URL.Query())
		if err != nil {
			fail(w, &Error{http.StatusBadRequest, err.Error()})
			return
		}
		v, err := f(r.Context(), q)
		answer(w, v, err)
	}
}

func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone, if this fails
}

func fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var e *Error
	if errors.As(err, &e) {
		status = e.Status
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(ErrorBody{err.Error()})
}

// flushEvery is how many lines of a long stream may wait to be sent; the first
// ones, and those of a slow stream, go sooner.
const flushEvery = 1024

func stream[Q, T any](parse func(url.Values) (Q, error), f func(context.Context, Q, func(T) error) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := parse(r.URL.Query())
		if err != nil {
			fail(w, &Error{http.StatusBadRequest, err.Error()})
			return
		}
		out := bufio.NewWriterSize(w, 64<<10)
		enc := json.NewEncoder(out)
		flush := func() error { return errors.Join(out.Flush(), http.NewResponseController(w).Flush()) }
		n, last := 0, time.Now()
		err = f(r.Context(), q, func(item T) error {
			if n == 0 {
				w.Header().Set("Content-Type", "application/x-ndjson")
			}
			if err := enc.Encode(streamLine[T]{Item: &item}); err != nil {
				return err
			}
			if n++; n <= 16 || n%flushEvery == 0 || time.Since(last) > 100*time.Millisecond {
				last = time.Now()
				return flush()
			}
			return nil
		})
		if err != nil && n == 0 {
			fail(w, err)
			return
		}
		end := streamLine[T]{End: true}
		if err != nil {
			end.Error = err.Error()
		}
		_ = errors.Join(enc.Encode(end), flush()) // the client has gone, if this fails
	}
}

func serveConfig(f func(context.Context) ([]byte, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, err := f(r.Context())
		if err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(text)
	}
}

func takeConfig(f func(context.Context, string, []byte) (Applied, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name, err := oneString("name")(r.URL.Query())
		if err != nil {
			fail(w, &Error{http.StatusBadRequest, err.Error()})
			return
		}
		if name == "" {
			name = "configuration"
		}
		text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxConfig))
		if err != nil {
			fail(w, &Error{http.StatusBadRequest, fmt.Sprintf("read %s: %v", name, err)})
			return
		}
		v, err := f(r.Context(), name, text)
		if v.Changes == nil {
			v.Changes = []string{}
		}
		answer(w, v, err)
	}
}

func serveCapture(f func(context.Context, CaptureQuery, func(Frame) error) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := parseCaptureQuery(r.URL.Query())
		if err != nil {
			fail(w, &Error{http.StatusBadRequest, err.Error()})
			return
		}
		begun := false
		flush := http.NewResponseController(w).Flush
		n := 0
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		err = f(ctx, q, func(fr Frame) error {
			if !begun {
				begun = true
				w.Header().Set("Content-Type", "application/vnd.tcpdump.pcap")
				if _, err := w.Write(pcapHeader(q.Snap)); err != nil {
					return err
				}
			}
			if fr.Data == nil { // the capture runs, no frame yet
				return flush()
			}
			if n == q.Count && n > 0 {
				return context.Canceled // frames that were on their way
			}
			if _, err := w.Write(fr.record()); err != nil {
				return err
			}
			if n++; n == q.Count {
				cancel()
			}
			return flush()
		})
		if err != nil && !begun {
			fail(w, err)
		}
	}
}
