package mgmt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
)

// Client asks a routing engine over its socket.
type Client struct {
	http         *http.Client
	scheme, host string
}

// NewClient makes a client of the socket at path (RUN/mgmt.sock). It connects
// when it is first asked.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true}}, scheme: "http", host: "godwit"}
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Error is an answer of the routing engine that says why it did not do what
// was asked; its text may have several lines (one for each fault of a
// configuration, as file:line:column: message).
type Error struct {
	Status  int // of HTTP: 400 bad request, 404 no such thing, 409 not now, 500, 503
	Message string
}

func (e *Error) Error() string { return e.Message }

// Version asks what runs.
func (c *Client) Version(ctx context.Context) (Version, error) {
	return get[Version](ctx, c, "/v1/version", nil)
}

// Modules asks for the processes.
func (c *Client) Modules(ctx context.Context) (Modules, error) {
	return get[Modules](ctx, c, "/v1/modules", nil)
}

// VRFs asks for the routing instances.
func (c *Client) VRFs(ctx context.Context) (VRFs, error) {
	return get[VRFs](ctx, c, "/v1/vrfs", nil)
}

// Interfaces asks for all interfaces, or the one named.
func (c *Client) Interfaces(ctx context.Context, name string) (Interfaces, error) {
	f := fields{}
	f.str("name", name)
	return get[Interfaces](ctx, c, "/v1/interfaces", url.Values(f))
}

// Routes streams the routes of the RIB. Leaving the loop ends the request.
func (c *Client) Routes(ctx context.Context, q RouteQuery) iter.Seq2[Route, error] {
	return lines[Route](ctx, c, http.MethodGet, "/v1/routes", q.values())
}

// RouteChanges asks for the route change log.
func (c *Client) RouteChanges(ctx context.Context, q RouteChangeQuery) (RouteChanges, error) {
	return get[RouteChanges](ctx, c, "/v1/routes/changes", q.values())
}

// FIB streams the routes of the line cards.
func (c *Client) FIB(ctx context.Context, q FIBQuery) iter.Seq2[FIBRoute, error] {
	return lines[FIBRoute](ctx, c, http.MethodGet, "/v1/fib", q.values())
}

// FIBSummary asks how the line cards' tables stand.
func (c *Client) FIBSummary(ctx context.Context) (FIBSummary, error) {
	return get[FIBSummary](ctx, c, "/v1/fib/summary", nil)
}

// FIBConsistency compares the RIB and the line cards; card 0: all.
func (c *Client) FIBConsistency(ctx context.Context, card uint16) (FIBConsistency, error) {
	v := fields{}
	v.num("card", int(card))
	return get[FIBConsistency](ctx, c, "/v1/fib/consistency", url.Values(v))
}

// FIBTrace asks what the line cards would do with a packet.
func (c *Client) FIBTrace(ctx context.Context, q FIBTraceQuery) (FIBTraces, error) {
	return get[FIBTraces](ctx, c, "/v1/fib/trace", q.values())
}

// Neighbors asks for ARP and ND entries.
func (c *Client) Neighbors(ctx context.Context, q NeighborQuery) (Neighbors, error) {
	return get[Neighbors](ctx, c, "/v1/neighbors", q.values())
}

// ClearNeighbors removes dynamic entries; they are resolved again when needed.
func (c *Client) ClearNeighbors(ctx context.Context, q NeighborQuery) (Done, error) {
	return ask[Done](ctx, c, http.MethodDelete, "/v1/neighbors", q.values(), nil)
}

// BFD asks for the BFD sessions of a VRF, or with an empty name of all.
func (c *Client) BFD(ctx context.Context, vrf string) (BFD, error) {
	f := fields{}
	f.str("vrf", vrf)
	return get[BFD](ctx, c, "/v1/bfd", url.Values(f))
}

// BGP asks for the speaker of a VRF, or with an empty name for all.
func (c *Client) BGP(ctx context.Context, vrf string) (BGP, error) {
	f := fields{}
	f.str("vrf", vrf)
	return get[BGP](ctx, c, "/v1/bgp", url.Values(f))
}

// ResetBGP clears a session.
func (c *Client) ResetBGP(ctx context.Context, q ResetQuery) (Done, error) {
	return ask[Done](ctx, c, http.MethodPost, "/v1/bgp/reset", q.values(), nil)
}

// Upgrade starts a module again. The answer comes before the module ends.
func (c *Client) Upgrade(ctx context.Context, q UpgradeQuery) (Done, error) {
	return ask[Done](ctx, c, http.MethodPost, "/v1/modules/upgrade", q.values(), nil)
}

// Bus asks for the bus's name table.
func (c *Client) Bus(ctx context.Context) (Bus, error) {
	return get[Bus](ctx, c, "/v1/bus", nil)
}

// Events asks for the event-core statistics of a module, or of all.
func (c *Client) Events(ctx context.Context, module string) (Events, error) {
	f := fields{}
	f.str("module", module)
	return get[Events](ctx, c, "/v1/events", url.Values(f))
}

// Trace asks for the last events of a module, or of all.
func (c *Client) Trace(ctx context.Context, module string) (Traces, error) {
	f := fields{}
	f.str("module", module)
	return get[Traces](ctx, c, "/v1/events/trace", url.Values(f))
}

// ClearEvents sets the event-core statistics of a module, or of all, to zero.
func (c *Client) ClearEvents(ctx context.Context, module string) (Done, error) {
	f := fields{}
	f.str("module", module)
	return ask[Done](ctx, c, http.MethodDelete, "/v1/events", url.Values(f), nil)
}

// Drops asks for the drop counters of a card, or with 0 of all.
func (c *Client) Drops(ctx context.Context, card uint16) (Drops, error) {
	f := fields{}
	f.num("card", int(card))
	return get[Drops](ctx, c, "/v1/drops", url.Values(f))
}

// Config returns the configuration in force as YAML, without passwords.
func (c *Client) Config(ctx context.Context) ([]byte, error) {
	resp, err := c.do(ctx, http.MethodGet, "/v1/config", nil, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// Check validates a configuration and tells what applying it would change.
// name is the file's name, for messages.
func (c *Client) Check(ctx context.Context, name string, yaml []byte) (Applied, error) {
	return ask[Applied](ctx, c, http.MethodPost, "/v1/check", url.Values{"name": {name}}, yaml)
}

// Apply puts a configuration into force, or with an error nothing of it.
func (c *Client) Apply(ctx context.Context, name string, yaml []byte) (Applied, error) {
	return ask[Applied](ctx, c, http.MethodPost, "/v1/apply", url.Values{"name": {name}}, yaml)
}

// Ping streams the results of echo requests; the last line has the summary.
func (c *Client) Ping(ctx context.Context, q PingQuery) iter.Seq2[PingLine, error] {
	return lines[PingLine](ctx, c, http.MethodPost, "/v1/ping", q.values())
}

// Capture writes the frames of an interface to w as a pcap file (nanosecond
// time stamps), each as soon as it comes, until the count is reached or ctx ends.
func (c *Client) Capture(ctx context.Context, q CaptureQuery, w io.Writer) error {
	resp, err := c.do(ctx, http.MethodGet, "/v1/capture", q.values(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(w, resp.Body)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func get[T any](ctx context.Context, c *Client, path string, q url.Values) (T, error) {
	return ask[T](ctx, c, http.MethodGet, path, q, nil)
}

func ask[T any](ctx context.Context, c *Client, method, path string, q url.Values, body []byte) (T, error) {
	var v T
	resp, err := c.do(ctx, method, path, q, body)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return v, fmt.Errorf("read %s: %w", path, err)
	}
	return v, nil
}

func (c *Client) do(ctx context.Context, method, path string, q url.Values, body []byte) (*http.Response, error) {
	u := url.URL{Scheme: c.scheme, Host: c.host, Path: path, RawQuery: q.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask routing engine: %w", errors.Unwrap(err))
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	var e ErrorBody
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || e.Error == "" {
		e.Error = "status " + strconv.Itoa(resp.StatusCode) + " of " + path
	}
	return nil, &Error{Status: resp.StatusCode, Message: e.Error}
}

// lines decodes a stream of JSON lines.
func lines[T any](ctx context.Context, c *Client, method, path string, q url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		resp, err := c.do(ctx, method, path, q, nil)
		if err != nil {
			yield(zero, err)
			return
		}
		defer resp.Body.Close()
		for d := json.NewDecoder(resp.Body); ; {
			var line streamLine[T]
			err := d.Decode(&line)
			switch {
			case errors.Is(err, io.EOF):
				yield(zero, fmt.Errorf("read %s: stream cut off", path))
				return
			case err != nil:
				yield(zero, fmt.Errorf("read %s: %w", path, err))
				return
			case line.End || line.Item == nil:
				if line.Error != "" {
					yield(zero, &Error{Status: http.StatusInternalServerError, Message: line.Error})
				}
				return
			}
			if !yield(*line.Item, nil) {
				return
			}
		}
	}
}

// streamLine frames the lines of a stream: {"item": ...} and at the end
// {"end": true} with an error where the stream could not be completed, so that
// a cut connection is not taken for a short list.
type streamLine[T any] struct {
	Item  *T     `json:"item,omitempty"`
	End   bool   `json:"end,omitempty"`
	Error string `json:"error,omitempty"`
}
