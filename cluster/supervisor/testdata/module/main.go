// Package main is a module for tests. It runs until SIGTERM; its last argument
// may say otherwise.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"godwit/cluster/fdstore"
	"godwit/cluster/health"
	"godwit/event"
)

func main() {
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM, syscall.SIGUSR1)
	fmt.Fprintln(os.Stderr, "module:", strings.Join(os.Args, " "))
	switch os.Args[len(os.Args)-1] {
	case "crash":
		os.Exit(9)
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
		time.Sleep(time.Hour)
	case "stuck":
		stuck()
	case "keeper":
		keep()
	case "silent": // it reports once
		_ = json.NewEncoder(os.NewFile(3, "reports")).Encode(health.Report{})
		signal.Reset(syscall.SIGTERM)
	}
	if <-terminate == syscall.SIGUSR1 {
		os.Exit(3)
	}
	fmt.Fprintln(os.Stderr, "stopped:", strings.Join(os.Args, " "))
}

// keep says what an earlier process has kept, and adds its own.
func keep() {
	c, err := fdstore.Open()
	if err != nil {
		panic(err)
	}
	kept, err := c.List()
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(os.Stderr, "kept:", strings.Join(slices.Sorted(maps.Keys(kept)), " ")+";")
	if err := c.Keep(fmt.Sprintf("of-%d", len(kept)+1), 0); err != nil {
		panic(err)
	}
	fmt.Fprintln(os.Stderr, "keeps:", os.Getpid())
}

// stuck runs a loop whose handler hangs in a lock.
func stuck() {
	l := event.New("stuck")
	if _, err := health.Attach(l, slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
		panic(err)
	}
	l.Handler("deadlock", event.Normal).After(100*time.Millisecond, hangInLock)
	_ = l.Run(context.Background())
}

func hangInLock() {
	var mu sync.Mutex
	mu.Lock()
	mu.Lock()
}
