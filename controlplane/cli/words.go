package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// word is one word of a command's grammar: a keyword with a value ("vrf NAME"),
// a keyword alone ("detail"), or, with an empty key, a value alone.
type word struct {
	key   string
	value string // what the value is called: NAME, ADDRESS
	help  string
	need  bool
	// fill proposes values for completion.
	fill func(context.Context, *Env) []string
}

// command is one command of the grammar.
type command struct {
	name    string
	help    string
	example string
	words   []word
	run     func(context.Context, *Env, words) error
}

// words are the words of a command line, by key ("" for the value alone).
type words map[string]string

// usageError is a fault of the words themselves.
type usageError struct{ msg string }

func (u usageError) Error() string { return u.msg }

func isUsage(err error) bool {
	var u usageError
	return errors.As(err, &u)
}

func (c command) usage() string {
	parts := []string{c.name}
	for _, w := range c.words {
		s := strings.TrimSpace(w.key + " " + w.value)
		if !w.need {
			s = "[" + s + "]"
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, " ")
}

func (c command) long() string {
	var b strings.Builder
	b.WriteString(strings.ToUpper(c.help[:1]) + c.help[1:] + ".\n")
	for _, w := range c.words {
		fmt.Fprintf(&b, "\n  %-22s %s", strings.TrimSpace(w.key+" "+w.value), w.help)
	}
	return b.String()
}

// find finds the word that s is, or is the beginning of.
func (c command) find(s string) (word, bool) {
	var hits []word
	for _, w := range c.words {
		if w.key != "" && w.key == s {
			return w, true
		}
		if w.key != "" && strings.HasPrefix(w.key, s) {
			hits = append(hits, w)
		}
	}
	if len(hits) == 1 {
		return hits[0], true
	}
	return word{}, false
}

func (c command) alone() (word, bool) {
	for _, w := range c.words {
		if w.key == "" {
			return w, true
		}
	}
	return word{}, false
}

// parse sorts a command line's words; an error says which word and what would be right.
func (c command) parse(args []string) (words, error) {
	got := words{}
	for i := 0; i < len(args); i++ {
		w, ok := c.find(args[i])
		if !ok {
			if w, ok = c.alone(); !ok {
				return nil, usageError{fmt.Sprintf("unknown word %q; usage: %s", args[i], c.usage())}
			}
		}
		if _, twice := got[w.key]; twice {
			return nil, usageError{fmt.Sprintf("%q: one is enough; usage: %s", args[i], c.usage())}
		}
		switch {
		case w.key == "":
			got[""] = args[i]
		case w.value == "":
			got[w.key] = "true"
		case i+1 == len(args):
			return nil, usageError{fmt.Sprintf("%q needs %s behind it: %s", w.key, w.value, w.help)}
		default:
			i++
			got[w.key] = args[i]
		}
	}
	for _, w := range c.words {
		if _, ok := got[w.key]; w.need && !ok {
			return nil, usageError{fmt.Sprintf("%s is missing; usage: %s", strings.TrimSpace(w.key+" "+w.value), c.usage())}
		}
	}
	return got, nil
}

func (c command) complete(ctx context.Context, e *Env, args []string) ([]string, cobra.ShellCompDirective) {
	if n := len(args); n > 0 {
		if w, ok := c.find(args[n-1]); ok && w.value != "" {
			return filled(ctx, e, w)
		}
	}
	var out []string
	for _, w := range c.words {
		if w.key != "" {
			out = append(out, w.key+"\t"+w.help)
			continue
		}
		values, directive := filled(ctx, e, w)
		if directive == cobra.ShellCompDirectiveDefault {
			return nil, directive
		}
		out = append(out, values...)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func filled(ctx context.Context, e *Env, w word) ([]string, cobra.ShellCompDirective) {
	switch {
	case w.value == "FILE":
		return nil, cobra.ShellCompDirectiveDefault
	case w.fill == nil:
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return w.fill(ctx, e), cobra.ShellCompDirectiveNoFileComp
}

func (w words) has(key string) bool { return w[key] != "" }

// reader takes typed values out of words; the first fault is kept.
type reader struct {
	w   words
	err error
}

func (r *reader) fail(key, want string) {
	if r.err == nil {
		r.err = usageError{fmt.Sprintf("%q is not %s", r.w[key], want)}
	}
}

func (r *reader) number(key string, lo, hi int) int {
	if !r.w.has(key) {
		return 0
	}
	n, err := strconv.Atoi(r.w[key])
	if err != nil || n < lo || n > hi {
		r.fail(key, fmt.Sprintf("a number from %d to %d", lo, hi))
	}
	return n
}

func (r *reader) address(key string) netip.Addr {
	if !r.w.has(key) {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(r.w[key])
	if err != nil {
		r.fail(key, "an IP address")
	}
	return a.Unmap()
}

func (r *reader) duration(key string) time.Duration {
	if !r.w.has(key) {
		return 0
	}
	d, err := time.ParseDuration(r.w[key])
	if err != nil || d < 0 {
		r.fail(key, "a duration, for example 200ms")
	}
	return d
}

// target reads PREFIX|ADDRESS.
func (r *reader) target(key string) (netip.Addr, netip.Prefix) {
	s := r.w[key]
	if s == "" {
		return netip.Addr{}, netip.Prefix{}
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		if p != p.Masked() {
			r.fail(key, fmt.Sprintf("a prefix: it has host bits set, did you mean %v?", p.Masked()))
		}
		return netip.Addr{}, p
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		r.fail(key, "a prefix (192.0.2.0/24) or an address (192.0.2.1)")
	}
	return a.Unmap(), netip.Prefix{}
}
