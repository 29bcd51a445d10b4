package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/term"
)

// shell reads command lines and runs each: the console of the appliance. On a
// terminal it edits lines, keeps a history and completes with Tab.
func shell(ctx context.Context, e *Env, _ words) error {
	prompt := e.prompt(ctx)
	fmt.Fprintln(e.Out, "godwit: \"help\" lists the commands, Tab completes, \"exit\" leaves")
	in := int(os.Stdin.Fd())
	if !term.IsTerminal(in) {
		s := bufio.NewScanner(os.Stdin)
		for fmt.Fprint(e.Out, prompt); s.Scan(); fmt.Fprint(e.Out, prompt) {
			if done := e.line(ctx, s.Text()); done {
				return nil
			}
		}
		return s.Err()
	}
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{os.Stdin, os.Stdout}, prompt)
	t.AutoCompleteCallback = func(line string, pos int, key rune) (string, int, bool) {
		return e.tab(ctx, t, line, pos, key)
	}
	for {
		line, err := readRaw(in, t)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if done := e.line(ctx, line); done {
			return nil
		}
	}
}

// readRaw reads one line in raw mode; commands run in the terminal's own mode.
func readRaw(fd int, t *term.Terminal) (string, error) {
	old, err := term.MakeRaw(fd)
	if err != nil {
		return "", fmt.Errorf("set up terminal: %w", err)
	}
	line, err := t.ReadLine()
	if rerr := term.Restore(fd, old); err == nil && rerr != nil {
		err = fmt.Errorf("restore terminal: %w", rerr)
	}
	return line, err
}

func (e *Env) prompt(ctx context.Context) string {
	host, _ := os.Hostname()
	if v, err := e.client.Version(ctx); err == nil && v.Hostname != "" {
		host = v.Hostname
	}
	return host + "> "
}

// line runs one line; it reports whether the shell shall end.
func (e *Env) line(ctx context.Context, line string) bool {
	args := strings.Fields(line)
	if len(args) == 0 {
		return false
	}
	switch args[0] {
	case "exit", "quit", "logout":
		return true
	case "shell":
		fmt.Fprintln(e.Err, "godwit: this is the shell")
	case "sh": // the operating system below, where there is one
		cmd := exec.CommandContext(ctx, "/bin/sh", args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, e.Out, e.Err
		if err := cmd.Run(); err != nil {
			fmt.Fprintf(e.Err, "godwit: %v\n", err)
		}
	default:
		Execute(ctx, append(args, "--run-dir", e.runDir), e.Out, e.Err)
	}
	return false
}

// tab completes the word before the cursor as far as it is clear, or lists what fits.
func (e *Env) tab(ctx context.Context, t *term.Terminal, line string, pos int, key rune) (string, int, bool) {
	if key != '\t' || pos != len(line) {
		return "", 0, false
	}
	args := strings.Fields(line)
	if len(args) == 0 || strings.HasSuffix(line, " ") {
		args = append(args, "")
	}
	last := args[len(args)-1]
	var out strings.Builder
	Execute(ctx, append([]string{"--run-dir", e.runDir, "__complete"}, args...), &out, io.Discard)
	var fits []string
	for l := range strings.Lines(out.String()) {
		word, _, _ := strings.Cut(strings.TrimSpace(l), "\t")
		if word != "" && word[0] != ':' && strings.HasPrefix(word, last) {
			fits = append(fits, word)
		}
	}
	if len(fits) == 0 {
		return line, pos, true
	}
	more := common(fits)[len(last):]
	if len(fits) == 1 {
		more += " "
	} else if more == "" {
		fmt.Fprintln(t, strings.Join(fits, "  "))
	}
	return line + more, pos + len(more), true
}

// common is the longest beginning that all words share.
func common(words []string) string {
	c := words[0]
	for _, w := range words[1:] {
		for !strings.HasPrefix(w, c) {
			c = c[:len(c)-1]
		}
	}
	return c
}
