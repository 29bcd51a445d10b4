package mgmt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"godwit/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a server and a client.
func serve(t *testing.T, b Backend) (*Client, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "gwt-mgmt-")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "mgmt.sock")
	s, err := Serve(path, b, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(path)
	t.Cleanup(func() {
		c.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("the socket is left behind")
		}
		os.RemoveAll(dir)
	})
	return c, path
}

func TestRequestsComeBack(t *testing.T) {
	var asked string
	c, path := serve(t, Backend{
		Version:    func(context.Context) (Version, error) { return Version{Version: "1", Uptime: time.Second}, nil },
		Interfaces: func(_ context.Context, name string) (Interfaces, error) { asked = name; return Interfaces{}, nil },
		ClearNeighbors: func(_ context.Context, q NeighborQuery) (Done, error) {
			return Done{fmt.Sprintf("%s %s %v", q.VRF, q.Interface, q.Address)}, nil
		},
		ClearEvents: func(_ context.Context, module string) (Done, error) { return Done{"cleared " + module}, nil },
		Trace: func(_ context.Context, module string) (Traces, error) {
			return Traces{Modules: []ModuleTrace{{Module: module, Events: []event.TraceEntry{{Handler: "h", Run: time.Second}}}}}, nil
		},
		BGP: func(context.Context, string) (BGP, error) {
			return BGP{}, &Error{http.StatusNotFound, "no such vrf: \"x\""}
		},
		Drops:  func(context.Context, uint16) (Drops, error) { return Drops{}, errors.New("boom") },
		Config: func(context.Context) ([]byte, error) { return []byte("cards: []\n"), nil },
		Apply: func(_ context.Context, name string, text []byte) (Applied, error) {
			return Applied{Changes: []string{name + "=" + string(text)}, Applied: true}, nil
		},
	})
	ctx := context.Background()
	if v, err := c.Version(ctx); err != nil || v.Version != "1" || v.Uptime != time.Second {
		t.Errorf("version: %+v, %v", v, err)
	}
	if _, err := c.Interfaces(ctx, "eth 0/1"); err != nil || asked != "eth 0/1" {
		t.Errorf("interfaces: %q, %v", asked, err)
	}
	q := NeighborQuery{VRF: "red", Interface: "a", Address: netip.MustParseAddr("fe80::1%a")}
	if d, err := c.ClearNeighbors(ctx, q); err != nil || d.Message != "red a fe80::1%a" {
		t.Errorf("clear: %+v, %v", d, err)
	}
	if d, err := c.ClearEvents(ctx, "router"); err != nil || d.Message != "cleared router" {
		t.Errorf("clear events: %+v, %v", d, err)
	}
	if v, err := c.Trace(ctx, "router"); err != nil || v.Modules[0].Module != "router" || v.Modules[0].Events[0].Run != time.Second {
		t.Errorf("trace: %+v, %v", v, err)
	}
	var e *Error
	if _, err := c.BGP(ctx, "x"); !errors.As(err, &e) || e.Status != 404 || e.Message != `no such vrf: "x"` {
		t.Errorf("bgp: %v", err)
	}
	if _, err := c.Drops(ctx, 0); !errors.As(err, &e) || e.Status != 500 || e.Message != "boom" {
		t.Errorf("drops: %v", err)
	}
	if text, err := c.Config(ctx); err != nil || string(text) != "cards: []\n" {
		t.Errorf("config: %q, %v", text, err)
	}
	if a, err := c.Apply(ctx, "dir/x.yaml", []byte("y")); err != nil || a.Changes[0] != "dir/x.yaml=y" {
		t.Errorf("apply: %+v, %v", a, err)
	}
	if _, err := c.Apply(ctx, "x", make([]byte, maxConfig+1)); !errors.As(err, &e) || e.Status != 400 {
		t.Errorf("apply too much: %v", err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o666 {
		t.Errorf("mode of the socket: %v, %v", st.Mode(), err)
	}
}

func TestBadRequests(t *testing.T) {
	c, _ := serve(t, Backend{})
	for _, bad := range []struct{ method, path, query, want string }{
		{"GET", "/v1/nothing", "", "no such request"},
		{"PUT", "/v1/version", "", "no such request"},
		{"GET", "/v1/version", "x=1", `unknown parameter "x"`},
		{"GET", "/v1/routes", "prefix=10.0.0.1/8", "did you mean 10.0.0.0/8"},
		{"GET", "/v1/routes", "family=5", "want 4 or 6"},
		{"GET", "/v1/routes", "address=10.0.0.1&prefix=10.0.0.0/8", "not together"},
		{"GET", "/v1/routes", "detail=maybe", "detail"},
		{"GET", "/v1/fib", "card=70000", "want 0 to 65535"},
		{"POST", "/v1/ping", "", "needed"},
		{"POST", "/v1/ping", "address=10.0.0.1&interval=-1s", "want 0s"},
		{"POST", "/v1/ping", "address=10.0.0.1&source=::1", "another family"},
		{"GET", "/v1/capture", "", "needed"},
	} {
		q, err := url.ParseQuery(bad.query)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.do(context.Background(), bad.method, bad.path, q, nil)
		if err == nil {
			resp.Body.Close()
		}
		var e *Error
		if !errors.As(err, &e) || e.Status/100 != 4 || !strings.Contains(e.Message, bad.want) {
			t.Errorf("%s %s?%s: %v, want %q", bad.method, bad.path, bad.query, err, bad.want)
		}
	}
}

func TestStreams(t *testing.T) {
	const many = 5000
	gone := make(chan struct{})
	c, _ := serve(t, Backend{
		Routes: func(ctx context.Context, q RouteQuery, emit func(Route) error) error {
			switch q.VRF {
			case "none":
				return nil
			case "bad":
				return &Error{http.StatusNotFound, "no vrf"}
			case "forever":
				defer close(gone)
				for ctx.Err() == nil {
					if err := emit(Route{VRF: "x"}); err != nil {
						return err
					}
				}
				return nil
			}
			for range many {
				if err := emit(Route{VRF: "x"}); err != nil {
					return err
				}
			}
			if q.VRF == "broken" {
				return errors.New("line card lost")
			}
			return nil
		},
	})
	read := func(vrf string) (n int, last error) {
		for _, err := range c.Routes(context.Background(), RouteQuery{VRF: vrf}) {
			if err != nil {
				last = err
				continue
			}
			n++
		}
		return n, last
	}
	if n, err := read("all"); n != many || err != nil {
		t.Errorf("all: %d, %v", n, err)
	}
	if n, err := read("none"); n != 0 || err != nil {
		t.Errorf("none: %d, %v", n, err)
	}
	if n, err := read("broken"); n != many || err == nil || err.Error() != "line card lost" {
		t.Errorf("broken: %d, %v", n, err)
	}
	var e *Error
	if n, err := read("bad"); n != 0 || !errors.As(err, &e) || e.Status != 404 {
		t.Errorf("bad: %d, %v", n, err)
	}
	n := 0
	for range c.Routes(context.Background(), RouteQuery{VRF: "forever"}) {
		if n++; n == 3 {
			break
		}
	}
	<-gone // leaving the loop ends the request
}

func TestCutStreamIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `{"item":{"vrf":"x"}}`)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	defer func() { s.Close(); <-done }()
	c := NewClient(path)
	defer c.Close()
	var last error
	for _, err := range c.Routes(context.Background(), RouteQuery{}) {
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), "cut off") {
		t.Errorf("error is %v", last)
	}
}

func TestCaptureIsPcap(t *testing.T) {
	c, _ := serve(t, Backend{Capture: func(ctx context.Context, q CaptureQuery, emit func(Frame) error) error {
		if q.Interface == "gone" {
			return &Error{http.StatusNotFound, "no such interface"}
		}
		if err := emit(Frame{}); err != nil {
			return err
		}
		for ctx.Err() == nil {
			if err := emit(Frame{Time: time.Unix(5, 7), Length: 100, Data: []byte("frame")}); err != nil {
				return err
			}
		}
		return nil
	}})
	var b bytes.Buffer
	if err := c.Capture(context.Background(), CaptureQuery{Interface: "a", Count: 1, Snap: 5}, &b); err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	p := b.Bytes()
	if len(p) < 24+16+5 || le.Uint32(p) != 0xa1b23c4d || le.Uint32(p[16:]) != 5 || le.Uint32(p[20:]) != 1 {
		t.Fatalf("header: %x", p)
	}
	r := p[24:]
	if le.Uint32(r) != 5 || le.Uint32(r[4:]) != 7 || le.Uint32(r[8:]) != 5 || le.Uint32(r[12:]) != 100 || string(r[16:21]) != "frame" {
		t.Errorf("record: %x", r)
	}
	if err := c.Capture(context.Background(), CaptureQuery{Interface: "gone"}, &b); err == nil {
		t.Error("no error for an interface that is not there")
	}
}

func TestSocket(t *testing.T) {
	_, path := serve(t, Backend{})
	if _, err := Serve(path, Backend{}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("two servers on one socket")
	}
	stale := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	s, err := Serve(stale, Backend{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	s.Close()
	c := NewClient("/nonexistent/mgmt.sock")
	defer c.Close()
	if _, err := c.Version(context.Background()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nobody there: %v", err)
	}
}

func TestQueriesComeBack(t *testing.T) {
	a := netip.MustParseAddr("2001:db8::1")
	route := RouteQuery{VRF: "r", Family: 6, Prefix: netip.MustParsePrefix("::/0"), Longer: true, Protocol: "bgp", NextHop: a, Tag: 1<<32 - 1, Detail: true}
	if got, err := parseRouteQuery(route.values()); err != nil || got != route {
		t.Errorf("%+v, %v", got, err)
	}
	changes := RouteChangeQuery{VRF: "r", Prefix: netip.MustParsePrefix("10.0.0.0/8"), Count: 7}
	if got, err := parseRouteChangeQuery(changes.values()); err != nil || got != changes {
		t.Errorf("%+v, %v", got, err)
	}
	fibq := FIBQuery{Card: 3, VRF: "r", Address: a}
	if got, err := parseFIBQuery(fibq.values()); err != nil || got != fibq {
		t.Errorf("%+v, %v", got, err)
	}
	ping := PingQuery{"r", a, a, 3, 99, time.Second, time.Minute, 64, true}
	if got, err := parsePingQuery(ping.values()); err != nil || !reflect.DeepEqual(got, ping) {
		t.Errorf("%+v, %v", got, err)
	}
	reset := ResetQuery{"r", a, true}
	if got, err := parseResetQuery(reset.values()); err != nil || got != reset {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzQueries(f *testing.F) {
	f.Add("vrf=red&address=10.0.0.1&count=5")
	f.Add("prefix=::ffff:1.2.3.4/120&family=4")
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(url.Values) error{
			func(v url.Values) error { _, err := parseRouteQuery(v); return err },
			func(v url.Values) error { _, err := parseFIBQuery(v); return err },
			func(v url.Values) error { _, err := parseRouteChangeQuery(v); return err },
			func(v url.Values) error { _, err := parsePingQuery(v); return err },
			func(v url.Values) error { _, err := parseNeighborQuery(v); return err },
			func(v url.Values) error { _, err := parseCaptureQuery(v); return err },
		} {
			v, err := url.ParseQuery(s)
			if err != nil {
				return
			}
			_ = parse(v)
		}
	})
}
