package confine

import (
	"encoding/json"
	"fmt"

	"golang.org/x/sys/unix"

	"godwit/security/elfsig"
)

// Variable is the environment variable by which the supervisor tells a module
// how to confine itself: a Policy as JSON.
const Variable = "GODWIT_CONFINE"

// Policy says what a module keeps.
type Policy struct {
	Role string      `json:"role"`
	Caps elfsig.Caps `json:"caps"`
	UID  int         `json:"uid"` // user and group to become; 0: it stays what it is
	GID  int         `json:"gid"`
	// Write and Read are files and folders that may be used so; both empty: no
	// rules (Landlock). What Unix permissions refuse stays refused.
	Write []string `json:"write,omitempty"`
	Read  []string `json:"read,omitempty"`
}

// role is what modules of a kind need at most.
type role struct {
	number  int // above the first of the users
	caps    string
	allowed []uintptr // system calls that others do not make
	denied  []uintptr // and that only this one does not
	files   bool      // Landlock: not for one that mounts
	write   []string  // besides those of Place
	read    []string
}

// Place is where a router lives.
type Place struct {
	RunDir    string
	FirstUser int // number of the first of the modules' users; 0: all run as root
}

// Users and groups are those from FirstUser on: the group of all modules, then a
// user for each role.
const (
	// DefaultFirstUser lies in a range that no distribution assigns
	// (systemd's UIDS-GIDS: 60578 to 61183 are unused).
	DefaultFirstUser = 60800
)

var roles = map[string]role{
	// The routing engine makes namespaces, mounts them and writes their settings.
	"router": {
		number:  1,
		caps:    "net_admin,net_raw,net_bind_service,sys_admin,dac_override,fowner,chown,sys_resource,sys_nice",
		allowed: []uintptr{unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_UNSHARE, unix.SYS_SETNS},
		denied:  []uintptr{unix.SYS_BPF},
	},
	// A line card has ports, BPF programs, and TAPs in the VRFs' namespaces
	// (sys_admin is for entering them).
	"linecard": {
		number:  2,
		caps:    "net_admin,net_raw,bpf,perfmon,sys_admin,sys_nice,sys_resource,ipc_lock",
		allowed: []uintptr{unix.SYS_SETNS},
		files:   true,
		write:   []string{"RUN/fabric", "/dev/net/tun", "/proc/sys/net", "/sys/fs/bpf", "/sys/devices", "/sys/class/net"},
		read:    []string{"/run/netns", "/var/run/netns", "/sys"},
	},
	// A speaker has TCP sessions in the namespace it is started in (sys_nice: its
	// event loop's thread goes first).
	"bgp": {
		number: 3,
		caps:   "net_bind_service,sys_nice",
		denied: []uintptr{unix.SYS_BPF, unix.SYS_IO_URING_SETUP},
		files:  true,
		write:  []string{"RUN/bgp"},
	},
}

// What every module with rules for files may use.
var (
	everyWrite = []string{"RUN/bus", "/dev/null"}
	everyRead  = []string{"RUN", "/proc", "/etc/localtime", "/usr/share/zoneinfo"}
)

// For returns the policy for a module of a role, with those of the role's
// capabilities that were signed into it (0: none were listed, it gets all). ok
// is false for an unknown role.
func For(name string, signed elfsig.Caps, at Place) (p Policy, ok bool) {
	r, ok := roles[name]
	if !ok {
		return Policy{}, false
	}
	p = Policy{Role: name, Caps: mustCaps(r.caps)}
	if signed != 0 {
		p.Caps &= signed
	}
	if at.FirstUser != 0 {
		p.UID, p.GID = at.FirstUser+r.number, at.FirstUser
	}
	if r.files {
		p.Write, p.Read = at.paths(everyWrite, r.write), at.paths(everyRead, r.read)
	}
	return p, true
}

// mustCaps reads the table above; a test reads all of it.
func mustCaps(list string) elfsig.Caps {
	c, err := elfsig.ParseCaps(list)
	if err != nil {
		panic(err)
	}
	return c
}

// paths puts the run directory in.
func (at Place) paths(lists ...[]string) []string {
	var out []string
	for _, list := range lists {
		for _, p := range list {
			if p == "RUN" {
				p = at.RunDir
			} else if rest, ok := cutRun(p); ok {
				p = at.RunDir + rest
			}
			out = append(out, p)
		}
	}
	return out
}

func cutRun(p string) (string, bool) {
	const run = "RUN/"
	if len(p) > len(run) && p[:len(run)] == run {
		return p[len(run)-1:], true
	}
	return "", false
}

// Encode is the policy as the variable holds it.
func (p Policy) Encode() string {
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // numbers and strings only
	}
	return string(b)
}

// Decode reads what Encode wrote.
func Decode(text string) (Policy, error) {
	var p Policy
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return Policy{}, fmt.Errorf("read confinement: %w", err)
	}
	if _, ok := roles[p.Role]; !ok {
		return Policy{}, fmt.Errorf("read confinement: no role %q", p.Role)
	}
	return p, nil
}
