// Command godwitd is the supervisor: it verifies and starts the router's
// modules, starts them again when they die, and keeps the bus name table.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"godwit/cluster/supervisor"
	"godwit/cmd/internal/program"
	"godwit/security/confine"
)

func main() {
	if err := command().Execute(); err != nil {
		fmt.Fprintf(os.Stderr, "godwitd: %v\n", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var cfg supervisor.Config
	var format, record string
	c := &cobra.Command{
		Use:   "godwitd",
		Short: "Run a Godwit router",
		Long: `godwitd runs a Godwit router until SIGTERM or SIGINT: it verifies the signatures of
the modules, starts the routing engine and what that asks for, and starts again what
dies. A second signal kills the modules instead of waiting for them.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       program.Version(),
		RunE: func(*cobra.Command, []string) error {
			return run(cfg, format, record)
		},
	}
	f := c.Flags()
	f.StringVar(&cfg.RunDir, "run-dir", "/run/godwit", "sockets, rings and process files")
	f.StringVar(&cfg.StateDir, "state-dir", "/var/lib/godwit", "what survives a restart")
	f.StringVar(&cfg.Instance, "instance", "godwit", "name of this router, prefix of its network namespaces")
	f.StringVar(&cfg.LibDir, "lib-dir", "", "where the modules are (default: where godwitd is)")
	f.StringVar(&cfg.TrustDir, "trust", "/etc/godwit/trust", "public keys that may sign modules")
	f.StringVar(&cfg.TrustRoot, "trust-root", "", "public key that must have signed the trust store (default: it need not be signed)")
	f.BoolVar(&cfg.Permissive, "permissive", false, "run modules that would be refused, for bringing up; never in service")
	f.BoolVar(&cfg.NoConfine, "no-confine", false, "let modules run as root with all it may do; for development")
	f.IntVar(&cfg.FirstUser, "first-user", confine.DefaultFirstUser, "number of the modules' group and, from the next on, of their users; 0: they stay root, confined otherwise")
	f.BoolVar(&cfg.NoEnforce, "no-enforce", false, "do not let the kernel refuse what is not signed, even if it can (BPF LSM); for development")
	f.StringVar(&cfg.ConfigFile, "config", "", "configuration to apply at start")
	f.StringVar(&record, "record", "", "write what the modules' state machine takes in to this file, for replay")
	f.StringVar(&format, "log-format", "text", "text or json")
	f.StringVar(&cfg.RecordRoutes, "record-routes", "", "let the routing engine write what its RIB takes in to this file, for replay")
	c.AddCommand(replayCommand())
	return c
}

func run(cfg supervisor.Config, format, record string) (err error) {
	var handler slog.Handler
	switch format {
	case "text":
		handler = slog.NewTextHandler(os.Stderr, nil)
	case "json":
		handler = slog.NewJSONHandler(os.Stderr, nil)
	default:
		return fmt.Errorf("log format %q: want text or json", format)
	}
	cfg.Log = slog.New(handler).With("module", "supervisor")
	cfg.Stderr = os.Stderr
	cfg.Env = []string{program.LogFormat + "=" + format}
	if err := absolute(&cfg.RunDir, &cfg.StateDir, &cfg.TrustDir, &cfg.TrustRoot, &cfg.ConfigFile, &cfg.RecordRoutes); err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own executable: %w", err)
	}
	if cfg.LibDir == "" {
		cfg.LibDir = filepath.Dir(exe)
	} else if err := absolute(&cfg.LibDir); err != nil {
		return err
	}
	cfg.Self = program.Info("supervisor", "supervisor")
	if record != "" {
		f, err := os.OpenFile(record, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
		if err != nil {
			return fmt.Errorf("record: %w", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		cfg.Record = f
	}
	if cfg.Cluster, err = clusterOf(&cfg); err != nil {
		return err
	}
	cfg.Signals = []os.Signal{syscall.SIGTERM, syscall.SIGINT}
	s, err := supervisor.New(cfg)
	if err != nil {
		return err
	}
	return s.Run(context.Background())
}

// absolute: modules run in "/".
func absolute(paths ...*string) error {
	var errs []error
	for _, p := range paths {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		errs = append(errs, err)
		*p = abs
	}
	return errors.Join(errs...)
}
