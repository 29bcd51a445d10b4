package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"godwit/controlplane/config"
	"godwit/controlplane/mgmt"
)

// readFile reads a configuration; - is standard input.
func readFile(name string) (string, []byte, error) {
	if name != "-" {
		data, err := os.ReadFile(name)
		if err != nil {
			return name, nil, fmt.Errorf("read configuration: %w", err)
		}
		return name, data, nil
	}
	data, err := io.ReadAll(io.LimitReader(os.Stdin, config.MaxSize+1))
	if err != nil {
		return "standard input", nil, fmt.Errorf("read configuration: %w", err)
	}
	return "standard input", data, nil
}

// check validates here, so that it works without a router, and asks a running
// router what would change.
func check(ctx context.Context, e *Env, w words) error {
	name, data, err := readFile(w[""])
	if err != nil {
		return err
	}
	if _, err := config.Parse(name, data); err != nil {
		return fmt.Errorf("faults in %s\n%w", name, err)
	}
	if _, err := os.Stat(e.runDir + "/mgmt.sock"); err != nil {
		if e.json {
			return e.printJSON(mgmt.Applied{Changes: []string{}})
		}
		fmt.Fprintf(e.Out, "%s is valid; no router runs here to compare it with\n", name)
		return nil
	}
	a, err := e.client.Check(ctx, name, data)
	if err != nil {
		return err
	}
	if e.json {
		return e.printJSON(a)
	}
	fmt.Fprintf(e.Out, "%s is valid; applying it would make %d changes\n", name, len(a.Changes))
	printLines(e.Out, a.Changes)
	return nil
}

func apply(ctx context.Context, e *Env, w words) error {
	name, data, err := readFile(w[""])
	if err != nil {
		return err
	}
	a, err := e.client.Apply(ctx, name, data)
	if err != nil {
		return fmt.Errorf("nothing was changed\n%w", err)
	}
	if e.json {
		return e.printJSON(a)
	}
	fmt.Fprintf(e.Out, "%s is in force: %d changes\n", name, len(a.Changes))
	printLines(e.Out, a.Changes)
	return nil
}

func printLines(w io.Writer, lines []string) {
	for _, l := range lines {
		fmt.Fprintln(w, "  "+l)
	}
}

func ping(ctx context.Context, e *Env, w words) error {
	r := reader{w: w}
	q := mgmt.PingQuery{VRF: w["vrf"], Address: r.address(""), Source: r.address("source"), Count: r.number("count", 1, 1_000_000),
		Size: r.number("size", 8, 65_499), Interval: r.duration("interval"), Timeout: r.duration("timeout"), TTL: r.number("ttl", 1, 255), DF: w.has("df")}
	if r.err != nil {
		return r.err
	}
	if q.VRF == "" {
		q.VRF = config.DefaultVRFName
	}
	lost := false
	err := stream(e, e.client.Ping(ctx, q), "", func(w io.Writer, l mgmt.PingLine) {
		textPing(w, l)
		lost = lost || l.Summary != nil && l.Summary.Received == 0
	})
	if err == nil && lost {
		return fmt.Errorf("no answer from %v in VRF %s", q.Address, q.VRF)
	}
	return err
}

func textPing(w io.Writer, l mgmt.PingLine) {
	switch {
	case l.Summary != nil:
		s := l.Summary
		fmt.Fprintf(w, "%d sent, %d received; min %v, avg %v, max %v\n", s.Sent, s.Received, s.Min, s.Avg, s.Max)
	case l.Error != "" && l.From.IsValid():
		fmt.Fprintf(w, "%d: %s from %v\n", l.Seq, l.Error, l.From)
	case l.Error != "":
		fmt.Fprintf(w, "%d: %s\n", l.Seq, l.Error)
	default:
		fmt.Fprintf(w, "%d: %d bytes from %v in %v\n", l.Seq, l.Bytes, l.From, l.RTT)
	}
}

func capture(ctx context.Context, e *Env, w words) error {
	r := reader{w: w}
	q := mgmt.CaptureQuery{Interface: w["interface"], Count: r.number("count", 1, 1<<31-1), Snap: r.number("snap", 14, 65535), Match: r.match()}
	if r.err != nil {
		return r.err
	}
	if !w.has("write") {
		if st, err := os.Stdout.Stat(); err == nil && st.Mode()&os.ModeCharDevice != 0 && e.Out == os.Stdout {
			return usageError{"a pcap does not go to a terminal: add \"write FILE\", or pipe it: | tcpdump -nr -"}
		}
		return e.client.Capture(ctx, q, e.Out)
	}
	f, err := os.OpenFile(w["write"], os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open capture file: %w", err)
	}
	if err := e.client.Capture(ctx, q, f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
