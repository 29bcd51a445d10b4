package signing

import (
	"crypto/ed25519"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"godwit/security/elfsig"
	"godwit/security/trust"
)

// signFlags are the flags of "sign".
type signFlags struct {
	key, passphrase, output, notBefore, notAfter, caps string
	detached                                           bool
	header                                             elfsig.Header
}

func signCommand() *cobra.Command {
	var f signFlags
	c := &cobra.Command{
		Use:   "sign --key FILE --role ROLE FILE",
		Short: "Sign a static ELF executable in place (or to --output), or any file with --detached",
		Long: `Sign puts a signature section into the file; signing again replaces it. The
version is that of the Go build and the name the file's unless flags say otherwise.
Strip before you sign: any change of the file breaks the signature.

What is not ELF (eBPF objects, configurations, images, scripts) gets a file of its
own with the signature, FILE.sig: --detached.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return sign(c, &f, args[0]) },
	}
	fl := c.Flags()
	fl.StringVar(&f.key, "key", "", "private key (required)")
	fl.StringVar(&f.header.Role, "role", "", "slot the module may fill: router, linecard, bgp (required)")
	fl.StringVar(&f.header.Name, "name", "", "module name (default: the file's name)")
	fl.StringVar(&f.header.Version, "version", "", "semantic version (default: the Go build's)")
	fl.StringVar(&f.header.MinVersion, "min-version", "", "oldest version that may run once this one has")
	fl.StringVar(&f.header.BuildID, "build-id", "", "build id (default: the file's)")
	fl.StringVar(&f.notBefore, "not-before", "", "valid from: 2026-11-22 or RFC 3339")
	fl.StringVar(&f.notAfter, "not-after", "", "valid until: 2026-11-22, RFC 3339, or a duration as 720h")
	fl.BoolVar(&f.detached, "detached", false, "write the signature to FILE.sig; the file stays as it is")
	passphraseFlag(c, &f.passphrase)
	fl.StringVar(&f.caps, "caps", "", "Linux capabilities it needs: net_admin,net_raw,bpf")
	fl.StringVarP(&f.output, "output", "o", "", "write the signed file here")
	required(c, "key", "role")
	return c
}

func sign(c *cobra.Command, f *signFlags, path string) error {
	key, err := elfsig.ReadPrivateKeyFile(f.key, passphrase(f.passphrase))
	if err != nil {
		return err
	}
	if f.header.Capabilities, err = elfsig.ParseCaps(f.caps); err != nil {
		return err
	}
	now := time.Now()
	if f.header.NotBefore, err = parseDate(f.notBefore, now); err != nil {
		return err
	}
	if f.header.NotAfter, err = parseDate(f.notAfter, now); err != nil {
		return err
	}
	if f.header.Name == "" {
		f.header.Name = filepath.Base(path)
	}
	if f.header.Version == "" {
		f.header.Version = buildVersion(path)
	}
	s, out, err := signFile(f, path, key)
	if err != nil {
		return err
	}
	c.Printf("%s: signed as %s %s, role %s, key %s\n", out, s.Name, s.Version, s.Role, s.KeyID)
	return nil
}

// signFile returns the signature and the file it is in.
func signFile(f *signFlags, path string, key ed25519.PrivateKey) (*elfsig.Signed, string, error) {
	out := f.output
	if f.detached {
		if out == "" {
			out = path + elfsig.DetachedSuffix
		}
		if err := elfsig.SignFileDetached(path, out, f.header, key); err != nil {
			return nil, "", err
		}
		s, err := elfsig.ParseFileDetached(path, out)
		return s, out, err
	}
	if out == "" {
		out = path
	}
	if err := elfsig.SignFile(path, out, f.header, key); err != nil {
		return nil, "", err
	}
	s, err := elfsig.ParseFile(out)
	return s, out, err
}

// buildVersion is the version that the go command put into the file. A build
// outside version control says "(devel)".
func buildVersion(path string) string {
	info, err := buildinfo.ReadFile(path)
	if err == nil {
		if v, ok := strings.CutPrefix(info.Main.Version, "v"); ok {
			return v
		}
	}
	return "0.0.0-devel"
}

func parseDate(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(d).UTC().Truncate(time.Second), nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("date %q: want 2026-11-22, 2026-11-22T12:00:00Z or a duration as 720h", s)
}

func verifyCommand() *cobra.Command {
	var key, store, root, role, sig string
	c := &cobra.Command{
		Use:   "verify (--key PUBLIC | --trust DIR) FILE...",
		Short: "Check modules, or files with detached signatures, against a public key or a trust store",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			check, err := checker(key, store, root)
			if err != nil {
				return err
			}
			var errs []error
			if sig != "" && len(args) > 1 {
				return errors.New("one signature is of one file")
			}
			for _, path := range args {
				errs = append(errs, verify(c, path, sig, role, check))
			}
			return errors.Join(errs...)
		},
	}
	c.Flags().StringVar(&key, "key", "", "public key")
	c.Flags().StringVar(&store, "trust", "", "directory of trusted public keys, with revocations")
	c.Flags().StringVar(&role, "role", "", "also ask for this role")
	c.Flags().StringVar(&root, "trust-root", "", "public key that must have signed the trust store")
	c.Flags().StringVar(&sig, "signature", "", "the file's detached signature")
	c.MarkFlagsOneRequired("key", "trust")
	c.MarkFlagsMutuallyExclusive("key", "trust")
	return c
}

// checker returns the function that finds the key for a signature, or refuses it.
func checker(key, store, root string) (func(*elfsig.Signed) (ed25519.PublicKey, error), error) {
	if store != "" {
		rootKey, err := (&storeFlags{root: root}).rootKey()
		if err != nil {
			return nil, err
		}
		st, err := trust.Load(store, rootKey)
		if err != nil {
			return nil, err
		}
		return func(s *elfsig.Signed) (ed25519.PublicKey, error) {
			k, err := st.Check(s)
			return k.Public, err
		}, nil
	}
	pub, err := elfsig.ReadPublicKeyFile(key)
	if err != nil {
		return nil, err
	}
	id, err := elfsig.KeyIDOf(pub)
	if err != nil {
		return nil, err
	}
	return func(s *elfsig.Signed) (ed25519.PublicKey, error) {
		if s.KeyID != id {
			return nil, fmt.Errorf("signed with key %s, not %s", s.KeyID, id)
		}
		return pub, nil
	}, nil
}

func verify(c *cobra.Command, path, sig, role string, check func(*elfsig.Signed) (ed25519.PublicKey, error)) error {
	var s *elfsig.Signed
	var err error
	if sig != "" {
		s, err = elfsig.VerifyFileDetached(path, sig, check)
	} else {
		s, err = elfsig.VerifyFile(path, check)
	}
	if err != nil {
		return err
	}
	if role != "" && s.Role != role {
		return fmt.Errorf("%s: signed as %q, wanted as %q", path, s.Role, role)
	}
	if err := s.CheckTime(time.Now()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	c.Printf("%s: good signature: %s %s, role %s, key %s\n", path, s.Name, s.Version, s.Role, s.KeyID)
	return nil
}

// report is what "inspect" prints.
type report struct {
	File         string     `json:"file"`
	Role         string     `json:"role"`
	Name         string     `json:"name"`
	Version      string     `json:"version"`
	MinVersion   string     `json:"min_version,omitempty"`
	BuildID      string     `json:"build_id"`
	KeyID        string     `json:"key_id"`
	NotBefore    *time.Time `json:"not_before,omitempty"`
	NotAfter     *time.Time `json:"not_after,omitempty"`
	Capabilities string     `json:"capabilities,omitempty"`
	Static       bool       `json:"static"`
	Signature    string     `json:"signature"`
}

func inspectCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "inspect MODULE...",
		Short: "Show the signature of modules, without checking it",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			for _, path := range args {
				s, err := parse(path)
				if err != nil {
					return err
				}
				if err := printReport(c, newReport(path, s), asJSON); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object a line")
	return c
}

// parse takes a signed module, or a file that has its signature beside it.
func parse(path string) (*elfsig.Signed, error) {
	s, err := elfsig.ParseFile(path)
	if errors.Is(err, elfsig.ErrELF) || errors.Is(err, elfsig.ErrUnsigned) {
		if s, derr := elfsig.ParseFileDetached(path, path+elfsig.DetachedSuffix); derr == nil {
			return s, nil
		}
	}
	return s, err
}

func newReport(path string, s *elfsig.Signed) report {
	r := report{
		File: path, Role: s.Role, Name: s.Name, Version: s.Version, MinVersion: s.MinVersion, BuildID: s.BuildID,
		KeyID: s.KeyID.String(), Capabilities: s.Capabilities.String(), Static: !s.Dynamic, Signature: s.Signature(),
	}
	if !s.NotBefore.IsZero() {
		r.NotBefore = &s.NotBefore
	}
	if !s.NotAfter.IsZero() {
		r.NotAfter = &s.NotAfter
	}
	return r
}

func printReport(c *cobra.Command, r report, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(r)
	}
	date := func(t *time.Time) string {
		if t == nil {
			return "no bound"
		}
		return t.Format(time.RFC3339)
	}
	or := func(s, empty string) string {
		if s == "" {
			return empty
		}
		return s
	}
	c.Printf("%s (not verified)\n", r.File)
	for _, row := range [][2]string{
		{"role", r.Role}, {"name", r.Name}, {"version", r.Version}, {"minimum version", or(r.MinVersion, "no floor")},
		{"build id", r.BuildID}, {"key id", r.KeyID}, {"not before", date(r.NotBefore)}, {"not after", date(r.NotAfter)},
		{"capabilities", or(r.Capabilities, "none")}, {"static", fmt.Sprint(r.Static)}, {"signature", r.Signature},
	} {
		c.Printf("  %-16s %s\n", row[0], row[1])
	}
	return nil
}
