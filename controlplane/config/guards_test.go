package config

import (
	"strings"
	"testing"
)

func TestPolicerValues(t *testing.T) {
	dscp := uint8(8)
	for _, c := range []struct {
		p    Policer
		want PolicerValues
	}{
		{Policer{Rate: "10M"}, PolicerValues{10_000_000, 125_000, 0, 0, -1}},
		{Policer{Rate: "64k"}, PolicerValues{64_000, 9_000, 0, 0, -1}},
		{Policer{Rate: "1.5G", Burst: "1M", PeakRate: "2G", ExceedDSCP: &dscp}, PolicerValues{1_500_000_000, 1_000_000, 2_000_000_000, 25_000_000, 8}},
		{Policer{Rate: "8000", PeakRate: "1T"}, PolicerValues{8_000, 9_000, 1_000_000_000_000, 1 << 32, -1}},
	} {
		if got, key, err := c.p.Values(); err != nil || got != c.want {
			t.Errorf("%+v: %+v, %s %v", c.p, got, key, err)
		}
	}
	for _, s := range []string{"", "M", "-1", "1e30", "NaN", "Inf", "10MM", "0", "1 M", "0x1p3k5"} {
		if n, err := parseAmount(s); err == nil {
			t.Errorf("%q is %d", s, n)
		}
	}
}

func TestRulesReadAsPeopleWriteThem(t *testing.T) {
	c, err := Parse("x", []byte(`acls:
  - name: a
    rules:
      - {action: permit, protocol: tcp, source: 10.0.0.0/8, source-ports: [1024-65535], destination: 192.0.2.0/24, ports: [80, 443], flags: [syn, "!ack"], dscp: 46, log: true}
      - {action: deny, family: ipv6, protocol: icmpv6, icmp-type: 1}
      - {action: deny, fragments: only, vlan: 7}
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range c.ACLs[0].Rules {
		got = append(got, c.ACLs[0].Rules[i].String())
	}
	want := `permit tcp from 10.0.0.0/8 port 1024-65535 to 192.0.2.0/24 to port 80,443 flags syn,!ack dscp 46 log
deny ipv6 icmpv6 type 1
deny fragments only vlan 7`
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestWordsOfRules(t *testing.T) {
	if set, clear, err := ParseFlags([]string{"syn", "cwr", "!ack", "!fin"}); err != nil || set != 0x82 || clear != 0x11 {
		t.Errorf("flags %#x %#x %v", set, clear, err)
	}
	for s, want := range map[string]PortRange{"80": {80, 80}, "0-65535": {0, 65535}, "5-5": {5, 5}} {
		if got, err := ParsePorts(s); err != nil || got != want {
			t.Errorf("%s: %v %v", s, got, err)
		}
	}
	for _, s := range []string{"", "-", "1-", "-1", "65536", "2-1", "1-2-3", "http"} {
		if got, err := ParsePorts(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
	for s, want := range map[string]uint8{"tcp": 6, "ospf": 89, "0": 0, "255": 255} {
		if got, err := ParseProtocol(s); err != nil || got != want {
			t.Errorf("%s: %v %v", s, got, err)
		}
	}
	for _, s := range []string{"", "256", "-1", "TCP"} {
		if got, err := ParseProtocol(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}
