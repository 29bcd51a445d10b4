// Command godwit is the router's command line.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"godwit/controlplane/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
