// Command godwit-sign makes signing keys and signs, verifies and inspects
// modules, without the rest of godwit: for the machine that has the keys.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"godwit/controlplane/cli/signing"
)

func main() {
	if err := command().Execute(); err != nil {
		fmt.Fprintf(os.Stderr, "godwit-sign: %v\n", err)
		os.Exit(1)
	}
}

// command is the whole command line; it prints to standard output.
func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "godwit-sign",
		Short: "Make keys, and sign, verify and inspect Godwit modules",
		Long: `godwit-sign signs the executables that Godwit's supervisor starts.

  godwit-sign key generate release          make release.key (secret) and release.pem (public)
  godwit-sign sign --key release.key --role linecard bin/godwit-linecard
  godwit-sign verify --trust /etc/godwit/trust bin/godwit-linecard
  godwit-sign inspect bin/godwit-linecard

Put release.pem into the router's trust directory; keep release.key away from it.
Keys are Ed25519 in PEM (PKCS #8 and SubjectPublicKeyInfo): openssl reads and makes them.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(os.Stdout)
	root.AddCommand(signing.KeyCommand())
	root.AddCommand(signing.Commands()...)
	return root
}
