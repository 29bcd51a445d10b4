package local

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// socketPair is two connected stream sockets, of which one is the pipe's.
func socketPair(t testing.TB) (*net.UnixConn, *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = c.(*net.UnixConn)
	}
	return conns[0], conns[1]
}

// received reads frames until the end of what a peer sends; it returns them as
// they were on the wire.
func received(t *testing.T, sent []byte, cut int) (frames []byte, end error) {
	t.Helper()
	a, b := socketPair(t)
	defer b.Close()
	wrote := make(chan struct{})
	go func() { // reads may split frames anywhere
		defer close(wrote)
		_, _ = a.Write(sent[:cut])
		_, _ = a.Write(sent[cut:])
		a.Close()
	}()
	defer func() { b.Close(); <-wrote }()
	_ = b.SetReadDeadline(time.Now().Add(patience))
	p := newPipe(b)
	for {
		kind, payload, err := p.receive()
		if cap(p.in) > 2*readBuffer {
			t.Fatalf("the buffer has %d bytes", cap(p.in))
		}
		if err != nil {
			return frames, err
		}
		if err := checkFrame(kind, len(payload)); err != nil {
			t.Fatalf("received %v", err)
		}
		frames = append(frames, kind, byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)))
		frames = append(frames, payload...)
	}
}

// FuzzReceive: whatever a peer sends, and however it is cut, what is received
// is its beginning, whole frames, up to the first that is malformed.
func FuzzReceive(f *testing.F) {
	frame := func(kind byte, n int) []byte {
		return append([]byte{kind, byte(n >> 16), byte(n >> 8), byte(n)}, make([]byte, n)...)
	}
	f.Add(bytes.Join([][]byte{frame(frameData, 1), frame(frameData, 5000), frame(frameShutdown, 0)}, nil), 3)
	f.Add(frame(frameData, 66000), 4000)
	f.Add(frame(frameData, 66001), 2)
	f.Add(append(frame(frameBeat, 0), frame(frameBeat, 1)...), 5)
	f.Add(frame(frameDatagram, datagramHeader+9)[:20], 1)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), 7)
	f.Fuzz(func(t *testing.T, sent []byte, cut int) {
		frames, err := received(t, sent, min(max(cut, 0), len(sent)))
		if !bytes.HasPrefix(sent, frames) {
			t.Fatalf("received %d bytes that were not sent", len(frames))
		}
		rest := sent[len(frames):]
		switch {
		case errors.Is(err, errFrame):
			if len(rest) < frameHeader || checkFrame(rest[0], int(rest[1])<<16|int(rest[2])<<8|int(rest[3])) == nil {
				t.Errorf("%v, but %x is a frame", err, rest[:min(len(rest), 8)])
			}
		case errors.Is(err, io.EOF):
			if len(rest) >= frameHeader && len(rest) >= frameHeader+(int(rest[1])<<16|int(rest[2])<<8|int(rest[3])) {
				t.Errorf("a whole frame was not received: %x", rest[:8])
			}
		default:
			t.Errorf("ended with %v", err)
		}
	})
}
