package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"godwit/cluster/bus"
)

// accepted connects a and b over a listener.
func accepted(l net.Listener) (a, b net.Conn, err error) {
	defer l.Close()
	a, err = net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	if b, err = l.Accept(); err != nil {
		a.Close()
	}
	return a, b, err
}

// tcpWay is TCP over loopback with the bus's framing: a header of 4 bytes, one
// write a message (TCP_NODELAY, Go's default), a reader with a buffer.
func tcpWay(string) (*way, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a, b, err := accepted(l)
	if err != nil {
		return nil, err
	}
	side := func(c net.Conn) end {
		in, out, body := bufio.NewReaderSize(c, 64<<10), make([]byte, 0, 4096), make([]byte, bus.MaxMessage)
		return end{
			send: func(m []byte) error {
				out = append(binary.BigEndian.AppendUint32(out[:0], uint32(len(m))), m...)
				_, err := c.Write(out)
				return err
			},
			recv: func() (int, error) {
				if _, err := io.ReadFull(in, body[:4]); err != nil {
					return 0, err
				}
				return io.ReadFull(in, body[:binary.BigEndian.Uint32(body)])
			},
		}
	}
	return &way{name: "tcp", a: side(a), b: side(b), oneWay: 100_000, close: func() { a.Close(); b.Close() }}, nil
}

// seqpacketWay is a unix SOCK_SEQPACKET socket, one system call a message.
func seqpacketWay(dir string) (*way, error) {
	l, err := net.Listen("unixpacket", filepath.Join(dir, "seqpacket"))
	if err != nil {
		return nil, err
	}
	a, b, err := accepted(l)
	if err != nil {
		return nil, err
	}
	side := func(c net.Conn) end {
		buf := make([]byte, bus.MaxMessage)
		return end{
			send: func(m []byte) error { _, err := c.Write(m); return err },
			recv: func() (int, error) { return c.Read(buf) },
		}
	}
	return &way{name: "seqpacket", a: side(a), b: side(b), oneWay: 100_000, close: func() { a.Close(); b.Close() }}, nil
}

// rawCodec passes bytes as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(b []byte, v any) error {
	p := v.(*[]byte)
	*p = append((*p)[:0], b...)
	return nil
}
func (rawCodec) Name() string { return "raw" }

// grpcWay is a bidirectional gRPC stream over a unix socket.
func grpcWay(dir string) (*way, error) {
	path := filepath.Join(dir, "grpc")
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	streams, stop := make(chan grpc.ServerStream, 1), make(chan struct{})
	s := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}))
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: "both", ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, st grpc.ServerStream) error { streams <- st; <-stop; return nil },
		}},
	}, nil)
	go func() { _ = s.Serve(l) }() // ends with Stop
	c, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{})))
	if err != nil {
		s.Stop()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	closeAll := func() { close(stop); cancel(); c.Close(); s.Stop() }
	st, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/bench/both")
	if err == nil {
		first := []byte{}
		err = st.SendMsg(&first) // opens the stream
	}
	if err != nil {
		closeAll()
		return nil, err
	}
	peer := <-streams
	type stream interface {
		SendMsg(any) error
		RecvMsg(any) error
	}
	side := func(st stream) end {
		var in []byte
		return end{
			send: func(m []byte) error { return st.SendMsg(&m) },
			recv: func() (int, error) { err := st.RecvMsg(&in); return len(in), err },
		}
	}
	w := &way{name: "grpc", a: side(st), b: side(peer), oneWay: 100_000, close: closeAll}
	if _, err := w.b.recv(); err != nil {
		closeAll()
		return nil, err
	}
	return w, nil
}

// natsWay is a NATS server in this process, with connections in memory.
func natsWay(dir string) (*way, error) {
	s, err := server.NewServer(&server.Options{DontListen: true, NoLog: true, NoSigs: true, StoreDir: dir})
	if err != nil {
		return nil, err
	}
	go s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		return nil, errors.New("NATS does not start")
	}
	var conns []*nats.Conn
	closeAll := func() {
		for _, c := range conns {
			c.Close()
		}
		s.Shutdown()
		s.WaitForShutdown()
	}
	side := func(out, in string) (end, error) {
		c, err := nats.Connect("", nats.InProcessServer(s))
		if err != nil {
			return end{}, fmt.Errorf("connect to NATS: %w", err)
		}
		conns = append(conns, c)
		ch := make(chan *nats.Msg, 1<<20) // a slow consumer would lose messages
		if _, err := c.ChanSubscribe(in, ch); err != nil {
			return end{}, err
		}
		if err := c.Flush(); err != nil {
			return end{}, err
		}
		return end{
			send: func(m []byte) error { return c.Publish(out, m) },
			recv: func() (int, error) { return len((<-ch).Data), nil },
		}, nil
	}
	a, err := side("b", "a")
	if err == nil {
		var b end
		if b, err = side("a", "b"); err == nil {
			return &way{name: "nats", a: a, b: b, oneWay: 200_000, close: closeAll}, nil
		}
	}
	closeAll()
	return nil, err
}
