package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// hiccupWord makes this program the meter.
	hiccupWord   = "hiccup-meter"
	hiccupPeriod = 250 * time.Microsecond
	// hiccupLimit is how late the meter must wake for the machine to have stood
	// still. Its own wake-up takes some 20 µs.
	hiccupLimit = 100 * time.Microsecond
	// hiccupEcho is for how long the load catches up after the machine stood still.
	hiccupEcho = 10 * time.Millisecond
)

// hiccupMeter is a process that only sleeps, on each core before all ordinary
// threads, and knows how much too long.
type hiccupMeter struct {
	cmd *exec.Cmd
	out strings.Builder
}

// hiccupList is what the meter prints.
type hiccupList struct {
	P999   float64    // µs too late
	Stalls [][2]int64 // times in which a core stood still, CLOCK_MONOTONIC
}

func startHiccups() (*hiccupMeter, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start hiccup meter: %w", err)
	}
	m := &hiccupMeter{cmd: exec.Command(self, hiccupWord)}
	m.cmd.Stdout = &m.out
	if err := m.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start hiccup meter: %w", err)
	}
	return m, nil
}

// stop ends the meter and returns what it saw.
func (m *hiccupMeter) stop() (hiccupList, error) {
	var list hiccupList
	if err := m.cmd.Process.Signal(os.Interrupt); err != nil {
		return list, fmt.Errorf("stop hiccup meter: %w", err)
	}
	if err := m.cmd.Wait(); err != nil {
		return list, fmt.Errorf("stop hiccup meter: %w", err)
	}
	if err := json.Unmarshal([]byte(m.out.String()), &list); err != nil {
		return list, fmt.Errorf("read hiccup meter: %w", err)
	}
	return list, nil
}

// quiet tells of a time, ns since epoch, whether the machine ran then: it did not
// stand still in the same piece of time or the one before.
func (h hiccupList) quiet(epoch int64) func(int64) bool {
	loud := map[int64]bool{}
	piece := func(at int64) int64 { return at / int64(hiccupEcho) }
	for _, s := range h.Stalls {
		for i := piece(s[0] - epoch); i <= piece(s[1]-epoch)+1; i++ {
			loud[i] = true
		}
	}
	return func(at int64) bool { return !loud[piece(at)] }
}

// monotonic is CLOCK_MONOTONIC, which all processes share.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("read clock: " + err.Error()) // every kernel has it
	}
	return ts.Nano()
}

// hiccups measures on all cores until interrupted, and prints a hiccupList.
func hiccups(interrupted <-chan os.Signal) error {
	quit := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	var late []float64
	list := hiccupList{Stalls: [][2]int64{}}
	for core := range runtime.NumCPU() {
		wg.Go(func() {
			l, s := hiccupsOf(core, quit)
			mu.Lock()
			defer mu.Unlock()
			late, list.Stalls = append(late, l...), append(list.Stalls, s...)
		})
	}
	<-interrupted
	close(quit)
	wg.Wait()
	list.P999 = quantile(late, 0.999)
	return json.NewEncoder(os.Stdout).Encode(list)
}

// hiccupsOf measures on one core.
func hiccupsOf(core int, quit <-chan struct{}) (late []float64, stalls [][2]int64) {
	runtime.LockOSThread() // for good
	var set unix.CPUSet
	set.Set(core)
	_ = unix.SchedSetaffinity(0, &set) // a core that is not ours: two on another
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	_ = unix.SchedSetAttr(0, &attr, 0) // without permission it sees other load, too
	ts := unix.NsecToTimespec(int64(hiccupPeriod))
	for {
		select {
		case <-quit:
			return late, stalls
		default:
		}
		begin := monotonic()
		_ = unix.Nanosleep(&ts, nil) // shorter when a signal comes
		end := monotonic()
		d := end - begin - int64(hiccupPeriod)
		late = append(late, float64(d)/1e3)
		if d > int64(hiccupLimit) {
			stalls = append(stalls, [2]int64{begin, end})
		}
	}
}
