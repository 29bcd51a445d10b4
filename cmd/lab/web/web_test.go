package web

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func TestAPageArrivesWhole(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	listening := &safeBuffer{}
	go func() { done <- Serve(ctx, addr, "me", listening) }()
	var out bytes.Buffer
	for range 1000 {
		if err = Get(t.Context(), "http://"+addr+"/3", &out); err == nil {
			break
		}
	}
	if err != nil || !strings.Contains(out.String(), `"me" sent 3145728 bytes`) {
		t.Errorf("%v %s", err, out.String())
	}
	if err := Get(t.Context(), "http://"+addr+"/x", io.Discard); err == nil {
		t.Error("a bad page was served")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestChangedAndShortPagesAreFound(t *testing.T) {
	for name, body := range map[string]string{"changed": strings.Replace(pattern+pattern, "text", "test", 1), "short": pattern[:10]} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if name == "short" {
				w.Header().Set("Content-Length", "11")
			}
			io.WriteString(w, body)
		}))
		if err := Get(t.Context(), s.URL, io.Discard); err == nil {
			t.Errorf("%s page was accepted", name)
		}
		s.Close()
	}
}
