// Package main is a module for tests. It runs until SIGTERM; its last argument
// may say otherwise.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	fmt.Fprintln(os.Stderr, "module:", strings.Join(os.Args, " "))
	switch os.Args[len(os.Args)-1] {
	case "crash":
		os.Exit(9)
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
		time.Sleep(time.Hour)
	}
	<-terminate
	fmt.Fprintln(os.Stderr, "stopped:", strings.Join(os.Args, " "))
}
