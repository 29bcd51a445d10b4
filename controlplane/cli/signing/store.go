package signing

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"godwit/security/elfsig"
	"godwit/security/trust"
)

// storeFlags name a trust store.
type storeFlags struct{ dir, root string }

func (s *storeFlags) add(c *cobra.Command, withRoot bool) {
	c.Flags().StringVar(&s.dir, "trust", "/etc/godwit/trust", "directory of the trust store")
	if withRoot {
		c.Flags().StringVar(&s.root, "trust-root", "", "public key that must have signed the store")
	}
}

func (s *storeFlags) rootKey() (ed25519.PublicKey, error) {
	if s.root == "" {
		return nil, nil
	}
	return elfsig.ReadPublicKeyFile(s.root)
}

func listCommand() *cobra.Command {
	var s storeFlags
	c := &cobra.Command{
		Use: "list", Short: "List the keys of a trust store", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			root, err := s.rootKey()
			if err != nil {
				return err
			}
			st, err := trust.Load(s.dir, root)
			if err != nil {
				return err
			}
			for _, k := range st.Keys() {
				c.Printf("%s  %-16s %s\n", k.ID, k.Label, uses(st, k))
			}
			if root != nil {
				c.Printf("signed by the root key as version %s\n", st.Version())
			}
			return nil
		},
	}
	s.add(c, true)
	return c
}

// uses says what a key may sign.
func uses(st *trust.Store, k trust.Key) string {
	words := []string{"all roles"}
	if len(k.Roles) > 0 {
		words[0] = strings.Join(k.Roles, ",")
	}
	if k.Development {
		words = append(words, "development")
		if !st.AllowsDevelopment() {
			words = append(words, "REFUSED: the store does not allow it")
		}
	}
	if st.Revoked(k.ID) {
		words = append(words, "REVOKED")
	}
	return strings.Join(words, "; ")
}

func trustCommand() *cobra.Command {
	var s storeFlags
	var roles, label string
	var development bool
	c := &cobra.Command{
		Use:   "trust PUBLIC-KEY",
		Short: "Put a public key into a trust store, for some roles or all",
		Long: `Trust copies the public key into the trust store, which is made if it is not there.
A store that the root key signed must be sealed again.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if label == "" {
				label = strings.TrimSuffix(filepath.Base(args[0]), ".pem")
			}
			id, err := trust.AddKey(s.dir, args[0], label, roles, development)
			if err != nil {
				return err
			}
			c.Printf("key %s is trusted in %s as %s\n", id, s.dir, label)
			return resealHint(c, s.dir)
		},
	}
	s.add(c, false)
	c.Flags().StringVar(&roles, "roles", "", "roles it may sign: router,linecard,bgp (default: all)")
	c.Flags().StringVar(&label, "label", "", "its name in the store (default: the file's)")
	c.Flags().BoolVar(&development, "allow-development", false, "let development keys count in this store")
	return c
}

func revokeCommand() *cobra.Command {
	var s storeFlags
	c := &cobra.Command{
		Use:   "revoke (key|build|signature) HEX",
		Short: "Revoke a key, a build or one signature in a trust store",
		Args:  cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := trust.Revoke(s.dir, args[0], args[1]); err != nil {
				return err
			}
			c.Printf("%s %s is revoked in %s\n", args[0], args[1], s.dir)
			return resealHint(c, s.dir)
		},
	}
	s.add(c, false)
	return c
}

func resealHint(c *cobra.Command, dir string) error {
	_, err := os.Stat(filepath.Join(dir, trust.SignatureFile))
	if err == nil {
		c.Printf("the store's signature does not match any more: godwit key seal --key ROOT.key --version NEXT --trust %s\n", dir)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func sealCommand() *cobra.Command {
	var s storeFlags
	var key, version, file string
	c := &cobra.Command{
		Use: "seal --key ROOT.key --version VERSION", Short: "Sign a trust store with the root key", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			root, err := elfsig.ReadPrivateKeyFile(key, passphrase(file))
			if err != nil {
				return err
			}
			if err := trust.Sign(s.dir, version, root); err != nil {
				return err
			}
			c.Printf("%s: signed as version %s\n", s.dir, version)
			return nil
		},
	}
	s.add(c, false)
	c.Flags().StringVar(&key, "key", "", "the root's private key (required)")
	c.Flags().StringVar(&version, "version", "", "semantic version of the store, above the last one (required)")
	passphraseFlag(c, &file)
	required(c, "key", "version")
	return c
}

func installCommand() *cobra.Command {
	var s storeFlags
	c := &cobra.Command{
		Use:   "install NEW-STORE",
		Short: "Replace a router's trust store in one step",
		Long: `Install checks the new store and puts it in the place of the old one: a start sees
either. With --trust-root the new store must be signed and not be older.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			root, err := s.rootKey()
			if err != nil {
				return err
			}
			st, err := trust.Install(args[0], s.dir, root)
			if err != nil {
				return err
			}
			version := "not signed"
			if st.Version() != "" {
				version = "version " + st.Version()
			}
			c.Printf("%s: %d keys, %d revocations, %s\n", s.dir, len(st.Keys()), st.Revocations(), version)
			return nil
		},
	}
	s.add(c, true)
	return c
}
