// Package web is the lab's web server and client: a page that says who served
// it, with a body of the length asked for whose content the client checks.
package web

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// nameHeader says who served the page.
const nameHeader = "X-Lab-Server"

// maxMegabytes bounds a body.
const maxMegabytes = 1024

// pattern fills bodies; its length is odd so that a lost or repeated piece shows.
const pattern = "godwit carries this text and not one byte may be missing, repeated or changed. 0123456789\n"

// Serve answers GET /N with N megabytes until ctx ends. It says on out when it listens.
func Serve(ctx context.Context, addr, name string, out io.Writer) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mb, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil || mb < 0 || mb > maxMegabytes {
			http.Error(w, "ask for /N, N megabytes", http.StatusBadRequest)
			return
		}
		w.Header().Set(nameHeader, name)
		w.Header().Set("Content-Length", strconv.Itoa(mb<<20))
		_, _ = io.CopyN(w, &repeat{}, int64(mb)<<20) // a client that goes away is its own affair
	})}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	fmt.Fprintf(out, "listening on %s as %s\n", addr, name)
	if err := s.Serve(l); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// Get fetches a page whole, checks every byte, and says who served it and how fast.
func Get(ctx context.Context, url string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	begin := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", url, resp.Status)
	}
	n, err := check(resp.Body)
	if err != nil {
		return fmt.Errorf("get %s: %w", url, err)
	}
	if n != resp.ContentLength {
		return fmt.Errorf("get %s: %d bytes of %d", url, n, resp.ContentLength)
	}
	d := time.Since(begin)
	fmt.Fprintf(out, "%q sent %d bytes in %.2f s (%.0f Mbit/s)\n", resp.Header.Get(nameHeader), n, d.Seconds(), float64(n)*8/1e6/d.Seconds())
	return nil
}

// repeat is an endless pattern.
type repeat struct{ at int }

func (r *repeat) Read(b []byte) (int, error) {
	n := copy(b, pattern[r.at:])
	r.at = (r.at + n) % len(pattern)
	return n, nil
}

// check reads to the end and compares with the pattern.
func check(r io.Reader) (int64, error) {
	var n int64
	buf, want := make([]byte, 64<<10), make([]byte, 64<<10)
	rep := &repeat{}
	for {
		m, err := r.Read(buf)
		_, _ = io.ReadFull(rep, want[:m])
		if string(buf[:m]) != string(want[:m]) {
			return n, fmt.Errorf("wrong content after %d bytes", n)
		}
		n += int64(m)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
