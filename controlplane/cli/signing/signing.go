// Package signing has the commands of who signs: keys, trust stores, signatures.
// They need no router and no network. godwit and godwit-sign offer them.
//
//	key     generate, id, list, trust, revoke, seal, install
//	module  sign, verify, inspect
package signing

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// KeyCommand is "key" with what is behind it.
func KeyCommand() *cobra.Command {
	c := &cobra.Command{Use: "key", Short: "make and show keys, keep trust stores"}
	c.AddCommand(generateCommand(), idCommand(), listCommand(), trustCommand(), revokeCommand(), sealCommand(), installCommand())
	return c
}

// ModuleCommand is "module" with what is behind it.
func ModuleCommand() *cobra.Command {
	c := &cobra.Command{Use: "module", Short: "sign, verify and inspect modules and other files"}
	c.AddCommand(Commands()...)
	return c
}

// Commands are those behind "module".
func Commands() []*cobra.Command {
	return []*cobra.Command{signCommand(), verifyCommand(), inspectCommand()}
}

// passphraseFlag adds the flag that says where a passphrase comes from.
func passphraseFlag(c *cobra.Command, file *string) {
	c.Flags().StringVar(file, "passphrase-file", "", "file whose first line is the key's passphrase (default: ask on the terminal)")
}

// passphrase returns the function that gets a key's passphrase.
func passphrase(file string) func() (string, error) {
	return func() (string, error) {
		if file == "" {
			return askSecret("Passphrase: ")
		}
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		return firstLine(f)
	}
}

func firstLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read passphrase: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// askSecret asks on the terminal, without echo.
func askSecret(prompt string) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", errors.New("the key needs a passphrase and there is no terminal: use --passphrase-file")
	}
	defer tty.Close()
	fd := int(tty.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", fmt.Errorf("ask for passphrase: %w", err)
	}
	quiet := *old
	quiet.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
		return "", fmt.Errorf("ask for passphrase: %w", err)
	}
	fmt.Fprint(tty, prompt)
	line, err := firstLine(tty)
	fmt.Fprintln(tty)
	return line, errors.Join(err, unix.IoctlSetTermios(fd, unix.TCSETS, old))
}

// required marks flags.
func required(c *cobra.Command, names ...string) {
	for _, n := range names {
		if err := c.MarkFlagRequired(n); err != nil {
			panic(err) // no such flag: a mistake in the caller
		}
	}
}
