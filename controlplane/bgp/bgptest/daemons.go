package bgptest

import (
	"fmt"
	"os"
	"path/filepath"
)

// BIRD is a running BIRD 2.
type BIRD struct {
	*Proc
	space *Space
	sock  string
}

// BIRD starts BIRD with the configuration.
func (s *Space) BIRD(config string) (*BIRD, error) {
	conf, err := s.net.File(s.Name+"-bird.conf", config)
	if err != nil {
		return nil, err
	}
	b := &BIRD{space: s, sock: filepath.Join(s.net.dir, s.Name+"-bird.ctl")}
	b.Proc, err = s.net.Start(s.Command("bird", "-f", "-c", conf, "-s", b.sock), "bird")
	return b, err
}

// Ask runs a birdc command.
func (b *BIRD) Ask(command ...string) (string, error) {
	return b.space.Output("birdc", append([]string{"-s", b.sock}, command...)...)
}

// Configure replaces the configuration of the running BIRD.
func (b *BIRD) Configure(config string) error {
	if _, err := b.space.net.File(b.space.Name+"-bird.conf", config); err != nil {
		return err
	}
	_, err := b.Ask("configure")
	return err
}

// FRR is a running FRR bgpd, without zebra.
type FRR struct {
	*Proc
	space *Space
	dir   string
}

// FRR starts FRR's bgpd with the configuration.
func (s *Space) FRR(config string) (*FRR, error) {
	dir := filepath.Join(s.net.dir, s.Name+"-frr")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make FRR's directory: %w", err)
	}
	conf, err := s.net.File(s.Name+"-frr.conf", config)
	if err != nil {
		return nil, err
	}
	f := &FRR{space: s, dir: dir}
	f.Proc, err = s.net.Start(s.Command("/usr/lib/frr/bgpd", "-f", conf, "-i", filepath.Join(dir, "bgpd.pid"),
		"--vty_socket", dir, "-u", "root", "-g", "root", "-S", "-Z", "-P", "0", "--log", "stdout"), "frr")
	return f, err
}

// Ask runs vtysh commands.
func (f *FRR) Ask(commands ...string) (string, error) {
	args := []string{"--vty_socket", f.dir, "-d", "bgpd"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	return f.space.Output("vtysh", args...)
}

// ExaBGP starts ExaBGP with the configuration.
func (s *Space) ExaBGP(config string) (*Proc, error) {
	conf, err := s.net.File(s.Name+"-exabgp.conf", config)
	if err != nil {
		return nil, err
	}
	cmd := s.Command("exabgp", conf)
	cmd.Env = append(os.Environ(), "exabgp.daemon.user=root", "exabgp.daemon.daemonize=false", "exabgp.api.cli=false",
		"exabgp.log.destination=stderr", "exabgp.cache.attributes=true", "PYTHONWARNINGS=ignore")
	return s.net.Start(cmd, "exabgp")
}

// OpenBGPD starts OpenBGPD with the configuration.
func (s *Space) OpenBGPD(config string) (*Proc, error) {
	conf, err := s.net.File(s.Name+"-openbgpd.conf", config)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(conf, 0o600); err != nil { // it refuses others
		return nil, fmt.Errorf("protect OpenBGPD's configuration: %w", err)
	}
	// Its processes change their root to a directory that its service would make;
	// here it is in a mount namespace of their own.
	return s.net.Start(s.Command("unshare", "--mount", "sh", "-c",
		`mount -t tmpfs tmpfs /run && mkdir -p "$(getent passwd _openbgpd | cut -d: -f6)" && exec /usr/sbin/bgpd -d -v -f "$0"`, conf), "openbgpd")
}

// GoBGPD is a running gobgpd.
type GoBGPD struct {
	*Proc
	space *Space
}

// GoBGPD starts gobgpd with the configuration (TOML).
func (s *Space) GoBGPD(config string) (*GoBGPD, error) {
	conf, err := s.net.File(s.Name+"-gobgpd.toml", config)
	if err != nil {
		return nil, err
	}
	g := &GoBGPD{space: s}
	g.Proc, err = s.net.Start(s.Command("gobgpd", "-f", conf, "--api-hosts", "127.0.0.1:50051", "--pprof-disable"), "gobgpd")
	return g, err
}

// Ask runs a gobgp command.
func (g *GoBGPD) Ask(command ...string) (string, error) { return g.space.Output("gobgp", command...) }
