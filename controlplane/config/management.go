package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
)

// Management says who may ask the routing engine, besides root: operators
// everything, viewers what changes nothing.
type Management struct {
	Operators []string    `yaml:"operators,omitempty"` // groups of the system, names or numbers
	Viewers   []string    `yaml:"viewers,omitempty"`
	Remote    *RemoteMgmt `yaml:"remote,omitempty"` // nil: on the local socket only
}

// RemoteMgmt is the management API over TLS with clients' certificates.
type RemoteMgmt struct {
	Listen      netip.AddrPort `yaml:"listen"`
	Certificate string         `yaml:"certificate"` // files in PEM
	Key         string         `yaml:"key"`
	Clients     string         `yaml:"clients"`             // authorities of the clients' certificates
	Operators   []string       `yaml:"operators,omitempty"` // common names in them
	Viewers     []string       `yaml:"viewers,omitempty"`
}

// groupName is what groupadd(8) takes, or a number.
var groupName = regexp.MustCompile(`^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10})$`)

func (v *validator) checkManagement() {
	m := v.c.System.Management
	if m == nil {
		return
	}
	const path = "system.management"
	v.checkLists(path, m.Operators, m.Viewers, func(name string) bool { return groupName.MatchString(name) }, "a group of the system: its name or number")
	r := m.Remote
	if r == nil {
		return
	}
	if !r.Listen.IsValid() || r.Listen.Port() == 0 {
		v.fail(path+".remote.listen", "address and port, for example 192.0.2.1:8443 or [::]:8443", "nowhere to listen")
	}
	for key, file := range map[string]string{"certificate": r.Certificate, "key": r.Key, "clients": r.Clients} {
		if !filepath.IsAbs(file) {
			v.fail(path+".remote."+key, "for example /etc/godwit/tls/"+key+".pem", "%q is not an absolute path", file)
		}
	}
	if len(r.Operators)+len(r.Viewers) == 0 {
		v.fail(path+".remote", "list common names of certificates under operators or viewers", "nobody may use the remote API")
	}
	v.checkLists(path+".remote", r.Operators, r.Viewers, func(name string) bool { return name != "" && len(name) <= 64 }, "a certificate's common name of 1 to 64 characters")
}

// checkLists wants every name once, in one list.
func (v *validator) checkLists(path string, operators, viewers []string, valid func(string) bool, want string) {
	seen := map[string]bool{}
	for _, l := range []struct {
		key   string
		names []string
	}{{"operators", operators}, {"viewers", viewers}} {
		for i, name := range l.names {
			at := fmt.Sprintf("%s.%s[%d]", path, l.key, i)
			switch {
			case !valid(name):
				v.fail(at, want, "%q is no valid name", name)
			case seen[name]:
				v.fail(at, "operators may do all that viewers may", "%q is listed twice", name)
			}
			seen[name] = true
		}
	}
}
