package config

import (
	"strings"
	"testing"
)

const managed = `
system:
  hostname: r1
  management:
    operators: [netadmin, 1004]
    viewers: [netops]
    remote:
      listen: "[::1]:8443"
      certificate: /etc/godwit/tls/router.pem
      key: /etc/godwit/tls/router.key
      clients: /etc/godwit/tls/clients.pem
      operators: [alice]
      viewers: [Network Operations]
`

func TestManagement(t *testing.T) {
	c, err := Parse("m.yaml", []byte(managed))
	if err != nil {
		t.Fatal(err)
	}
	m := c.System.Management
	if m == nil || m.Operators[1] != "1004" || m.Remote.Listen.Port() != 8443 || m.Remote.Viewers[0] != "Network Operations" {
		t.Fatalf("%+v", m)
	}
	text, err := Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("again.yaml", text)
	if err != nil || again.System.Management.Remote.Listen != m.Remote.Listen || len(again.System.Management.Operators) != 2 {
		t.Errorf("%v: %+v\n%s", err, again, text)
	}
	for _, bad := range []struct{ old, new, fault string }{
		{"netadmin", "Net Admin", `system.management.operators[0]: "Net Admin" is no valid name`},
		{"[netops]", "[netadmin]", `system.management.viewers[0]: "netadmin" is listed twice`},
		{`"[::1]:8443"`, `"[::1]:0"`, "system.management.remote.listen: nowhere to listen"},
		{`"[::1]:8443"`, `":8443"`, "system.management.remote.listen"},
		{"/etc/godwit/tls/router.key", "router.key", `system.management.remote.key: "router.key" is not an absolute path`},
		{"      clients: /etc/godwit/tls/clients.pem\n", "", "system.management.remote.clients"},
		{"      operators: [alice]\n      viewers: [Network Operations]\n", "", "system.management.remote: nobody may use"},
		{"[alice]", `[""]`, "system.management.remote.operators[0]"},
	} {
		_, err := Parse("m.yaml", []byte(strings.Replace(managed, bad.old, bad.new, 1)))
		if err == nil || !strings.Contains(err.Error(), bad.fault) {
			t.Errorf("%s for %s: %v", bad.new, bad.old, err)
		}
	}
}
