package router

import (
	"fmt"
	"os/user"
	"strconv"

	"godwit/controlplane/config"
	"godwit/controlplane/mgmt"
)

// access is who may use the management API.
func access(c *config.Config) (mgmt.Access, error) {
	m := c.System.Management
	if m == nil {
		return mgmt.Access{}, nil
	}
	var a mgmt.Access
	var err error
	if a.Operators, err = groupNumbers(m.Operators); err != nil {
		return mgmt.Access{}, err
	}
	if a.Viewers, err = groupNumbers(m.Viewers); err != nil {
		return mgmt.Access{}, err
	}
	if r := m.Remote; r != nil {
		a.Remote = &mgmt.Remote{Listen: r.Listen, Certificate: r.Certificate, Key: r.Key, Clients: r.Clients, Operators: r.Operators, Viewers: r.Viewers}
	}
	return a, nil
}

// groupNumbers looks the system's groups up.
func groupNumbers(names []string) ([]uint32, error) {
	var out []uint32
	for _, name := range names {
		n, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			g, gerr := user.LookupGroup(name)
			if gerr != nil {
				return nil, fmt.Errorf("management: no group %q on this system", name)
			}
			if n, err = strconv.ParseUint(g.Gid, 10, 32); err != nil {
				return nil, fmt.Errorf("management: group %q has the number %q", name, g.Gid)
			}
		}
		out = append(out, uint32(n))
	}
	return out, nil
}

// setAccess tells the management API who may use it.
func (r *Router) setAccess(c *config.Config) error {
	if r.mgmt == nil {
		return nil // not there yet: connect sets it
	}
	a, err := access(c)
	if err != nil {
		return err
	}
	return r.mgmt.SetAccess(a)
}
