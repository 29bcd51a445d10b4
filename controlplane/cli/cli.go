// Package cli is the router's command line: godwit show, apply, check, ping,
// capture, clear, reset.
//
// The grammar is the table in grammar.go: every command lists its words, what
// they take and what they mean; help, completion and errors come from there.
// Each command asks the routing engine for one value of package mgmt, and
// either prints it for people or, with --json, as it is.
package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"godwit/controlplane/cli/signing"
	"godwit/controlplane/mgmt"
)

// Env is what the commands work with.
type Env struct {
	Out, Err io.Writer
	client   *mgmt.Client
	runDir   string
	remote   remoteFlags
	json     bool
}

// remoteFlags name a router elsewhere, and who we are there.
type remoteFlags struct{ address, certificate, key, authority string }

// connect makes the client.
func (e *Env) connect() error {
	f := e.remote
	if f.address == "" {
		if f.certificate+f.key+f.authority != "" {
			return usageError{"--remote-certificate, --remote-key and --remote-authority go with --remote"}
		}
		e.client = mgmt.NewClient(filepath.Join(e.runDir, "mgmt.sock"))
		return nil
	}
	if f.certificate == "" || f.key == "" || f.authority == "" {
		return usageError{"--remote needs --remote-certificate, --remote-key and --remote-authority"}
	}
	var err error
	e.client, err = mgmt.NewRemoteClient(f.address, f.certificate, f.key, f.authority)
	return err
}

// Execute runs a command line (without the program's name) to its end and
// returns the exit status: 0 done, 1 it failed, 2 the words are wrong.
func Execute(ctx context.Context, args []string, out, errw io.Writer) int {
	e := &Env{Out: out, Err: errw}
	cobra.EnablePrefixMatching = true
	root := e.root()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errw)
	err := root.ExecuteContext(ctx)
	if e.client != nil {
		e.client.Close()
	}
	if err == nil {
		return 0
	}
	fmt.Fprintf(errw, "godwit: %v\n", err)
	if isUsage(err) {
		return 2
	}
	return 1
}

// Check checks the words of a command line without doing anything.
func Check(args []string) error {
	table, rest := plainCommands(), args
	if len(args) > 1 {
		groups := map[string][]command{"show": showCommands(), "clear": clearCommands(), "reset": resetCommands(), "request": requestCommands()}
		if g, ok := groups[args[0]]; ok {
			table, rest = g, args[1:]
		}
	}
	if len(args) > 2 && args[0] == "request" && args[1] == "fib" {
		table, rest = requestFIBCommands(), args[2:]
	}
	for _, c := range table {
		if len(rest) > 0 && c.name == rest[0] {
			_, err := c.parse(rest[1:])
			return err
		}
	}
	return usageError{fmt.Sprintf("no command %q", strings.Join(args, " "))}
}

func (e *Env) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "godwit",
		Short:         "the router's command line",
		Long:          rootHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().StringVar(&e.runDir, "run-dir", defaultRunDir(), "the router's run folder (or GODWIT_RUN_DIR)")
	root.PersistentFlags().BoolVar(&e.json, "json", false, "print JSON (stable; see docs/cli.md)")
	f := root.PersistentFlags()
	f.StringVar(&e.remote.address, "remote", "", "ask a router elsewhere: host:port of its remote API")
	f.StringVar(&e.remote.certificate, "remote-certificate", "", "with --remote: our certificate (PEM)")
	f.StringVar(&e.remote.key, "remote-key", "", "with --remote: its key")
	f.StringVar(&e.remote.authority, "remote-authority", "", "with --remote: who signs the router's certificate")
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return e.connect() }
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err.Error()} })
	show := e.group("show", "show what the router knows and does", showCommands())
	clear := e.group("clear", "remove learned entries; they are learned again", clearCommands())
	reset := e.group("reset", "restart a session", resetCommands())
	request := e.group("request", "ask the router to do something", requestCommands())
	request.AddCommand(e.group("fib", "ask the line cards", requestFIBCommands()))
	root.AddCommand(show, clear, reset, request, signing.KeyCommand(), signing.ModuleCommand())
	for _, c := range plainCommands() {
		root.AddCommand(e.command(c))
	}
	return root
}

func defaultRunDir() string {
	if dir := os.Getenv("GODWIT_RUN_DIR"); dir != "" {
		return dir
	}
	return "/run/godwit"
}

const rootHelp = `The router's command line.

  godwit show route vrf red 192.0.2.1      which route a packet takes, and why
  godwit show interfaces                   what is up, and its counters
  godwit check new.yaml                    what is wrong with a configuration
  godwit apply new.yaml                    put it into force: all of it or nothing
  godwit ping vrf red 192.0.2.1            from the host stack of a VRF
  godwit capture interface red-up | tcpdump -nr -

Words may be shortened as long as they are clear: "godwit sh ro v red".
Completion: source <(godwit completion bash)`

// group makes a command whose words are the commands of a table.
func (e *Env) group(name, help string, table []command) *cobra.Command {
	g := &cobra.Command{Use: name, Short: help, Args: func(cmd *cobra.Command, args []string) error {
		var known []string
		for _, c := range table {
			known = append(known, c.name)
		}
		if table == nil { // groups of its own
			for _, c := range cmd.Commands() {
				known = append(known, c.Name())
			}
		}
		if len(args) == 0 {
			return usageError{fmt.Sprintf("%s what? One of: %s", name, strings.Join(known, ", "))}
		}
		return usageError{fmt.Sprintf("unknown word %q behind %q; known: %s", args[0], name, strings.Join(known, ", "))}
	}, RunE: func(*cobra.Command, []string) error { return nil }}
	for _, c := range table {
		g.AddCommand(e.command(c))
	}
	return g
}

func (e *Env) command(c command) *cobra.Command {
	return &cobra.Command{
		Use: c.usage(), Short: c.help, Long: c.long(), Example: c.example,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := c.parse(args)
			if err != nil {
				return err
			}
			return c.run(cmd.Context(), e, w)
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return c.complete(cmd.Context(), e, args)
		},
	}
}

// printJSON prints one value, indented; a stream prints one compact value a line.
func (e *Env) printJSON(v any) error {
	enc := json.NewEncoder(e.Out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// shown makes a run function of a question and a text form.
func shown[T any](ask func(ctx context.Context, e *Env, w words) (T, error), text func(io.Writer, T)) func(context.Context, *Env, words) error {
	return func(ctx context.Context, e *Env, w words) error {
		ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		v, err := ask(ctx, e, w)
		if err != nil {
			return err
		}
		if e.json {
			return e.printJSON(v)
		}
		text(e.Out, v)
		return nil
	}
}
