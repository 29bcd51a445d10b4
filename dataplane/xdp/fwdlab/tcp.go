package fwdlab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// TCPResult is one transfer.
type TCPResult struct {
	Mbps        float64 // received
	Retransmits int
	PerGbit     time.Duration // CPU time of the router for 10^9 bits
}

// hosts makes generator and sink ordinary hosts that send frames as they are on
// the wire: no segments to be cut and no checksums to be written by a device that is not there.
func (l *Lab) hosts() error {
	for _, h := range []struct{ ns, dev, addr, gateway, mac string }{
		{Gen, l.gen, Source.String(), RouterIn.String(), MACIn.String()},
		{Sink, l.sink, NextHop.String(), RouterOut.String(), MACOut.String()},
	} {
		if err := errors.Join(
			l.Exec(h.ns, "ethtool", "-K", h.dev, "tx", "off", "tso", "off", "gso", "off", "txvlan", "off"),
			l.IP(h.ns, "addr", "replace", h.addr+"/30", "dev", h.dev),
			l.IP(h.ns, "neigh", "replace", h.gateway, "lladdr", h.mac, "dev", h.dev, "nud", "permanent"),
			l.IP(h.ns, "route", "replace", "default", "via", h.gateway),
		); err != nil {
			return fmt.Errorf("make host %s: %w", h.ns, err)
		}
	}
	return nil
}

const tcpPort = 5201

// TCP sends one stream from generator to sink through the router, with
// iperf3 on the hosts' core. Threads are as in Measure.
func (l *Lab) TCP(threads []int, d time.Duration) (res TCPResult, err error) {
	if err := l.hosts(); err != nil {
		return res, err
	}
	router, err := l.pin()
	if err != nil {
		return res, err
	}
	for _, tid := range threads {
		if err := pinThread(tid, RouterCore, 0); err != nil {
			return res, err
		}
	}
	threads = append(router, threads...)
	server := exec.Command("ip", "netns", "exec", l.Netns(Sink), "iperf3", "-s", "-1", "-p", strconv.Itoa(tcpPort), "-A", strconv.Itoa(HostCore))
	if err := server.Start(); err != nil {
		return res, fmt.Errorf("start iperf3: %w", err)
	}
	defer func() {
		if err != nil {
			_ = server.Process.Kill()
		}
		if e := server.Wait(); err == nil && e != nil {
			err = fmt.Errorf("iperf3 server: %w", e)
		}
	}()
	if err := l.listening(); err != nil {
		return res, err
	}
	before, err := threadTimes(threads)
	if err != nil {
		return res, err
	}
	out, err := exec.Command("ip", "netns", "exec", l.Netns(Gen), "iperf3", "-c", NextHop.String(), "-p", strconv.Itoa(tcpPort),
		"-A", strconv.Itoa(HostCore), "-t", fmt.Sprintf("%.0f", max(1, d.Seconds())), "-J").Output()
	if err != nil {
		return res, fmt.Errorf("iperf3: %w: %s", err, out)
	}
	after, err := threadTimes(threads)
	if err != nil {
		return res, err
	}
	return parseTCP(out, after-before)
}

// listening waits until the server takes connections.
func (l *Lab) listening() error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		out, err := exec.Command("ip", "netns", "exec", l.Netns(Sink), "ss", "-Htln", "sport", "=", strconv.Itoa(tcpPort)).Output()
		if err == nil && strings.Contains(string(out), "LISTEN") {
			return nil
		}
	}
	return errors.New("iperf3 server does not listen")
}

// threadTimes sums the CPU times of threads.
func threadTimes(tids []int) (sum time.Duration, err error) {
	for _, tid := range tids {
		t, err := threadTime(tid)
		if err != nil {
			return 0, err
		}
		sum += t
	}
	return sum, nil
}

// parseTCP reads iperf3's report.
func parseTCP(report []byte, cpu time.Duration) (res TCPResult, err error) {
	var r struct {
		End struct {
			Sent struct {
				Retransmits int `json:"retransmits"`
			} `json:"sum_sent"`
			Received struct {
				BPS   float64 `json:"bits_per_second"`
				Bytes float64 `json:"bytes"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(report, &r); err != nil {
		return res, fmt.Errorf("read iperf3's report: %w", err)
	}
	if r.End.Received.Bytes == 0 {
		return res, errors.New("iperf3 received nothing")
	}
	gbit := r.End.Received.Bytes * 8 / 1e9
	return TCPResult{
		Mbps: r.End.Received.BPS / 1e6, Retransmits: r.End.Sent.Retransmits,
		PerGbit: time.Duration(float64(cpu) / gbit),
	}, nil
}
