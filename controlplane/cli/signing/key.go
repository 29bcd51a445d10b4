package signing

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"godwit/security/elfsig"
)

func generateCommand() *cobra.Command {
	var file string
	var encrypt, development bool
	c := &cobra.Command{
		Use:   "generate NAME",
		Short: "Make a key pair: NAME.key (secret, mode 0600) and NAME.pem (public)",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			secret := ""
			if encrypt || file != "" {
				var err error
				if secret, err = passphrase(file)(); err != nil {
					return err
				}
				if secret == "" {
					return errors.New("empty passphrase")
				}
			}
			return generateKey(c, args[0], secret, development)
		},
	}
	passphraseFlag(c, &file)
	c.Flags().BoolVar(&encrypt, "passphrase", false, "protect the secret key by a passphrase")
	c.Flags().BoolVar(&development, "development", false, "mark the key: trust stores refuse it unless their policy allows development")
	return c
}

// generateKey never overwrites a key.
func generateKey(c *cobra.Command, name, secret string, development bool) error {
	key, err := elfsig.GenerateKey()
	if err != nil {
		return err
	}
	encode := elfsig.EncodePrivateKey
	if secret != "" {
		encode = func(k ed25519.PrivateKey) ([]byte, error) { return elfsig.EncryptPrivateKey(k, secret) }
	}
	private, err := encode(key)
	if err != nil {
		return err
	}
	public := key.Public().(ed25519.PublicKey)
	open, err := elfsig.EncodePublicKey(public)
	if err != nil {
		return err
	}
	if development {
		private, open = elfsig.MarkDevelopment(private), elfsig.MarkDevelopment(open)
	}
	id, err := elfsig.KeyIDOf(public)
	if err != nil {
		return err
	}
	if err := writeNew(name+".key", private, 0o600); err != nil {
		return err
	}
	if err := writeNew(name+".pem", open, 0o644); err != nil {
		return errors.Join(err, os.Remove(name+".key"))
	}
	c.Printf("key %s\n  %s.key  secret: sign with it, keep it off the router\n  %s.pem  public: put it into the router's trust store\n", id, name, name)
	return nil
}

func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write key: %w", err), os.Remove(path))
	}
	return nil
}

func idCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "id FILE...",
		Short: "Print the key id of public or private keys",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			for _, path := range args {
				id, err := keyID(path, file)
				if err != nil {
					return err
				}
				c.Printf("%s  %s\n", id, path)
			}
			return nil
		},
	}
	passphraseFlag(c, &file)
	return c
}

func keyID(path, file string) (elfsig.KeyID, error) {
	pub, err := elfsig.ReadPublicKeyFile(path)
	if err != nil {
		key, kerr := elfsig.ReadPrivateKeyFile(path, passphrase(file))
		if kerr != nil {
			return elfsig.KeyID{}, errors.Join(err, kerr)
		}
		pub = key.Public().(ed25519.PublicKey)
	}
	return elfsig.KeyIDOf(pub)
}
