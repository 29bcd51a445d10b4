// Command mkimage makes the quick image (kernel and initramfs) and boots it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"godwit/cmd/mkimage/image"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		stop()
		os.Exit(1)
	}
}

func root() *cobra.Command {
	self, _ := os.Executable()
	bin := filepath.Dir(self)
	build := filepath.Join(filepath.Dir(bin), "build")
	o := image.Options{Log: os.Stderr}
	var m image.Machine
	r := &cobra.Command{Use: "mkimage", Short: "make and boot the quick image", SilenceUsage: true, SilenceErrors: true}
	r.PersistentFlags().StringVar(&o.Bin, "bin", bin, "folder of the router's binaries")
	r.PersistentFlags().StringVar(&o.Trust, "trust", filepath.Join(build, "keys", "trust"), "folder of the keys they are signed with")
	r.PersistentFlags().StringVar(&o.Out, "out", filepath.Join(build, "image"), "folder of the image")
	r.PersistentFlags().StringVar(&o.Config, "config", "", "configuration to put in (build) or to hand over (run)")
	mk := &cobra.Command{Use: "build", Short: "make vmlinuz and initramfs.gz", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return image.Build(c.Context(), o)
	}}
	run := &cobra.Command{Use: "run", Short: "boot the image in QEMU with the console on this terminal (leave with Ctrl-A X)", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		dir, err := os.MkdirTemp("", "godwit-run-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		m.Dir, m.Config, m.Work, m.Monitor = o.Out, o.Config, dir, true
		cmd, err := m.Command()
		if err != nil {
			return err
		}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		return cmd.Run()
	}}
	run.Flags().IntVar(&m.Memory, "memory", 1024, "MiB")
	run.Flags().StringVar(&m.Accel, "accel", "", "QEMU's accelerator, for example kvm; default: software emulation")
	run.Flags().IntVar(&m.CPUs, "cpus", 2, "processors")
	r.AddCommand(mk, run)
	return r
}
