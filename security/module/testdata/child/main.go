// Package main is a module for tests: it does what its arguments say.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// build makes two builds differ: -ldflags=-X=main.build=2.
var build = "1"

func main() {
	fmt.Fprintln(os.Stderr, "build", build)
	for _, arg := range os.Args[1:] {
		word, value, _ := strings.Cut(arg, "=")
		switch word {
		case "args":
			fmt.Fprintln(os.Stderr, "args", strings.Join(os.Args, " "))
		case "env":
			fmt.Fprintln(os.Stderr, "env", strings.Join(os.Environ(), " "))
		case "netns":
			ns, err := os.Readlink("/proc/self/ns/net")
			fmt.Fprintln(os.Stderr, "netns", ns, err)
		case "fds":
			entries, err := os.ReadDir("/proc/self/fd")
			for _, e := range entries {
				to, lerr := os.Readlink("/proc/self/fd/" + e.Name())
				if lerr == nil {
					fmt.Fprintln(os.Stderr, "fd", e.Name(), to)
				}
			}
			fmt.Fprintln(os.Stderr, "fds", err)
		case "exit":
			n, err := strconv.Atoi(value)
			if err != nil {
				panic(err)
			}
			os.Exit(n)
		case "sleep":
			time.Sleep(time.Hour)
		}
	}
}
