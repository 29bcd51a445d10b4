package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"godwit/security/elfsig"
)

func keyCommand() *cobra.Command {
	c := &cobra.Command{Use: "key", Short: "Make and show keys"}
	generate := &cobra.Command{
		Use:   "generate NAME",
		Short: "Make a key pair: NAME.key (secret, mode 0600) and NAME.pem (public)",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return generateKey(c, args[0])
		},
	}
	show := &cobra.Command{
		Use:   "id FILE...",
		Short: "Print the key id of public or private keys",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			for _, path := range args {
				id, err := keyID(path)
				if err != nil {
					return err
				}
				c.Printf("%s  %s\n", id, path)
			}
			return nil
		},
	}
	c.AddCommand(generate, show)
	return c
}

// generateKey never overwrites a key.
func generateKey(c *cobra.Command, name string) error {
	key, err := elfsig.GenerateKey()
	if err != nil {
		return err
	}
	secret, err := elfsig.EncodePrivateKey(key)
	if err != nil {
		return err
	}
	public := key.Public().(ed25519.PublicKey)
	open, err := elfsig.EncodePublicKey(public)
	if err != nil {
		return err
	}
	id, err := elfsig.KeyIDOf(public)
	if err != nil {
		return err
	}
	if err := writeNew(name+".key", secret, 0o600); err != nil {
		return err
	}
	if err := writeNew(name+".pem", open, 0o644); err != nil {
		return errors.Join(err, os.Remove(name+".key"))
	}
	c.Printf("key %s\n  %s.key  secret: sign with it, keep it off the router\n  %s.pem  public: put it into the router's trust directory\n", id, name, name)
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

func keyID(path string) (elfsig.KeyID, error) {
	pub, err := elfsig.ReadPublicKeyFile(path)
	if err != nil {
		key, kerr := elfsig.ReadPrivateKeyFile(path, nil)
		if kerr != nil {
			return elfsig.KeyID{}, errors.Join(err, kerr)
		}
		pub = key.Public().(ed25519.PublicKey)
	}
	return elfsig.KeyIDOf(pub)
}
