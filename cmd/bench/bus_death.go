package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"time"

	"godwit/cluster/bus"
	"godwit/cluster/bus/local"
)

const busDeaths = 30

// busChildMain is a process that binds a name, connects by TCP, and waits to be
// killed.
func busChildMain(dir string) error {
	c, err := net.Dial("tcp", os.Getenv(busTCP))
	if err != nil {
		return err
	}
	defer c.Close()
	m, err := local.Join(dir, "victim")
	if err != nil {
		return err
	}
	defer m.Close()
	l, err := m.Listen(bus.One(busService, 2))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	go func() {
		for {
			if _, err := l.Accept(); err != nil {
				return
			}
		}
	}()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// deaths are times in ms from the kill of a process.
type deaths struct {
	event []float64 // to the topology event
	conn  []float64 // to the end of a bus connection
	tcp   []float64 // baseline: to the end of a TCP connection over loopback
	wait  []float64 // baseline: to its parent's knowledge (wait for the child)
}

// busDeath measures from the kill of a process to the topology event, and to
// the end of its connections. The kernel takes a dead process's memory before
// it closes its sockets: the baselines of the same deaths show this share.
func busDeath(r *report) error {
	dir, err := os.MkdirTemp("", "godwit-bench-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(dir)
	s, err := local.NewServer(dir, discard)
	if err != nil {
		return err
	}
	defer s.Close()
	m, err := local.Join(dir, "watcher")
	if err != nil {
		return err
	}
	defer m.Close()
	sub, err := m.Subscribe(bus.All(busService))
	if err != nil {
		return err
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	defer l.Close()
	var d deaths
	for range busDeaths {
		if err := d.kill(dir, m, sub, l); err != nil {
			return fmt.Errorf("kill a process: %w", err)
		}
	}
	worst := func(v []float64) []float64 { return []float64{slices.Max(v)} }
	for _, f := range []struct {
		name   string
		values []float64
		base   string
		paired []float64
	}{
		{"bus.death", d.event, "tcp", d.tcp}, {"bus.death", d.event, "wait", d.wait}, {"bus.death_conn", d.conn, "tcp", d.tcp},
		{"bus.death_worst", worst(d.event), "tcp", worst(d.tcp)},
	} {
		if err := r.against(f.name, "ms", "less", f.values, f.base, f.paired); err != nil {
			return err
		}
	}
	return nil
}

// victim starts the process and waits until it is there.
func victim(dir string, l *net.TCPListener) (cmd *exec.Cmd, in io.Closer, c net.Conn, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, nil, err
	}
	cmd = exec.Command(self, "bus")
	cmd.Env = append(os.Environ(), busChild+"="+dir, busTCP+"="+l.Addr().String())
	if in, err = cmd.StdinPipe(); err != nil {
		return nil, nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		in.Close()
		return nil, nil, nil, err
	}
	if _, err = bufio.NewReader(out).ReadString('\n'); err == nil {
		_ = l.SetDeadline(time.Now().Add(10 * time.Second))
		c, err = l.Accept()
	}
	if err != nil {
		in.Close() // it ends
		_ = cmd.Wait()
		return nil, nil, nil, err
	}
	return cmd, in, c, nil
}

// kill measures one death.
func (d *deaths) kill(dir string, m bus.Bus, sub bus.Subscription, l *net.TCPListener) error {
	cmd, in, tcp, err := victim(dir, l)
	if err != nil {
		return err
	}
	defer in.Close()
	defer tcp.Close()
	if e, err := sub.Next(); err != nil || !e.Up {
		return fmt.Errorf("event %+v: %w", e, err)
	}
	c, err := m.Dial(context.Background(), bus.Service{Type: busService, Instance: 2})
	if err != nil {
		return err
	}
	defer c.Close()
	noticed := func(f func()) chan time.Time {
		ch := make(chan time.Time, 1)
		go func() { f(); ch <- time.Now() }()
		return ch
	}
	conn := noticed(func() { _, _ = c.Recv() }) // until it ends
	raw := noticed(func() { _, _ = tcp.Read(make([]byte, 1)) })
	wait := noticed(func() { _ = cmd.Wait() }) // killed
	begin := time.Now()
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	e, err := sub.Next()
	end := time.Now()
	if err != nil || e.Up {
		return fmt.Errorf("event %+v: %w", e, err)
	}
	for _, f := range []struct {
		to *[]float64
		at time.Time
	}{{&d.event, end}, {&d.conn, <-conn}, {&d.tcp, <-raw}, {&d.wait, <-wait}} {
		*f.to = append(*f.to, float64(f.at.Sub(begin).Nanoseconds())/1e6)
	}
	return nil
}
