package fwdlab

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"godwit/dataplane/netdev"
)

// Real-time priorities in the lab; 0 is an ordinary thread. The sink is before the
// generator, so that it is never what limits. The router's NAPI is urgent, too, so
// that what else runs on the machine disturbs both forwarders as little.
// (Nice levels are no way: with autogroups they compare kernel threads, which
// stand alone, with whole sessions.)
const (
	generatorPriority = netdev.NAPIPriority
	sinkPriority      = netdev.NAPIPriority + 1
	samplerPriority   = netdev.WorkerPriority + 1
)

// pinThread keeps a thread on one core and, with a priority, makes it urgent.
func pinThread(tid, core int, priority uint32) error {
	var set unix.CPUSet
	set.Set(core)
	if err := unix.SchedSetaffinity(tid, &set); err != nil {
		return fmt.Errorf("pin thread %d to core %d: %w", tid, core, err)
	}
	if priority == 0 {
		return nil
	}
	return netdev.Urgent(tid, priority)
}

// napiThreads finds the kernel threads that do a device's receive work: they
// are named napi/DEVICE-ID, cut to 15 bytes.
func napiThreads(dev string) ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, err
	}
	prefix := []byte("napi/" + dev + "-")
	if len(prefix) > 15 {
		prefix = prefix[:15]
	}
	var tids []int
	for _, f := range files {
		comm, err := os.ReadFile(f)
		if err != nil || !bytes.HasPrefix(comm, prefix) {
			continue
		}
		if tid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
			tids = append(tids, tid)
		}
	}
	if len(tids) == 0 {
		return nil, fmt.Errorf("find NAPI thread of %s: none", dev)
	}
	return tids, nil
}

// threadTime is the CPU time that a thread has used.
func threadTime(tid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", tid))
	if err != nil {
		return 0, fmt.Errorf("read thread time: %w", err)
	}
	ns, err := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read thread time: %w", err)
	}
	return time.Duration(ns), nil
}

// pin puts every NAPI thread of the lab where it belongs and returns the
// router's. It is done again after anything that restarts a device's NAPI.
func (l *Lab) pin() ([]int, error) {
	var router []int
	for _, d := range []struct {
		dev      string
		core     int
		priority uint32
	}{
		{l.gen, HostCore, 0}, {l.sink, HostCore, sinkPriority},
		{l.In, RouterCore, netdev.NAPIPriority}, {l.Out, RouterCore, netdev.NAPIPriority},
	} {
		tids, err := napiThreads(d.dev)
		if err != nil {
			return nil, err
		}
		for _, tid := range tids {
			if err := pinThread(tid, d.core, d.priority); err != nil {
				return nil, err
			}
		}
		if d.core == RouterCore {
			router = append(router, tids...)
		}
	}
	return router, nil
}
