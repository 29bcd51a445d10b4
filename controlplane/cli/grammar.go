package cli

import (
	"context"

	"godwit/controlplane/mgmt"
)

// Words that several commands share.
var (
	vrfWord    = word{key: "vrf", value: "NAME", help: "of this VRF only", fill: vrfNames}
	cardWord   = word{key: "card", value: "N", help: "of this line card only"}
	targetWord = word{value: "PREFIX|ADDRESS", help: "this prefix, or the longest match for an address"}
)

// showCommands are the words behind "show".
func showCommands() []command {
	return []command{
		{name: "version", help: "show what runs", run: shown(askVersion, textVersion)},
		{name: "modules", help: "show the processes: state, restarts, signature", run: shown(askModules, textModules)},
		{name: "vrfs", help: "show the routing instances", run: shown(askVRFs, textVRFs)},
		{name: "interfaces", help: "show the interfaces: state, addresses, counters",
			words: []word{{value: "NAME", help: "this interface, with all details", fill: interfaceNames}},
			run:   showInterfaces},
		{name: "route", help: "show the RIB: what was learned, what was chosen, and why",
			example: "  godwit show route vrf red\n  godwit show route vrf red 192.0.2.1 detail\n  godwit show route vrf red 10.0.0.0/8 longer protocol bgp\n  godwit show route changes vrf red count 20",
			words: []word{vrfWord, targetWord,
				{key: "longer", help: "with a prefix: its more-specifics too"},
				{key: "protocol", value: "WORD", help: "local, connected, static, bgp; or leaked: from another VRF", fill: protocols},
				{key: "next-hop", value: "ADDRESS", help: "through this next hop"},
				{key: "tag", value: "N", help: "with this tag"},
				{key: "ipv4", help: "IPv4 only"}, {key: "ipv6", help: "IPv6 only"},
				{key: "detail", help: "all candidates, why each was chosen or not, how next hops resolve"},
				{key: "changes", help: "the log of what changed in the FIB, with vrf and a prefix only theirs"},
				{key: "count", value: "N", help: "so many changes; default 100"}},
			run: showRoute},
		{name: "fib", help: "show the FIB of the line cards, or with no word its summary",
			words: []word{vrfWord, cardWord, targetWord, {key: "all", help: "every route"},
				{key: "statistics", help: "routes, memory, neighbors and groups of each line card"},
				{key: "consistency", help: "compare the RIB and each line card, by digests and where they differ by route"}}, run: showFIB},
		{name: "neighbors", help: "show ARP and ND entries",
			words: []word{vrfWord, {key: "interface", value: "NAME", help: "on this interface", fill: interfaceNames}, {value: "ADDRESS", help: "this one"}},
			run:   shown(askNeighbors, textNeighbors)},
		{name: "bgp", help: "show the BGP speakers and their peers", words: []word{vrfWord}, run: shown(askBGP, textBGP)},
		{name: "bfd", help: "show the BFD sessions, or what the line cards count",
			example: "  godwit show bfd\n  godwit show bfd sessions vrf red --json\n  godwit show bfd counters",
			words:   []word{{key: "sessions", help: "the sessions, with what was negotiated"}, {key: "counters", help: "packets, drops, and how late timers ran"}, vrfWord},
			run:     showBFD},
		{name: "sampling", help: "show which interfaces are sampled, and the collectors", run: shown(askSampling, textSampling)},
		{name: "mirror", help: "show the mirrors of interfaces: state, copies, drops", run: shown(askMirrors, textMirrors)},
		{name: "acl", help: "show access lists, checks of sources and policers where interfaces use them, with what they count",
			words: []word{{value: "NAME", help: "where this ACL is used", fill: aclNames}}, run: shown(askGuards, textGuards)},
		{name: "bus", help: "show the bus: its name table, or links or nodes",
			example: "  godwit show bus names\n  godwit show bus links", words: busViews, run: showBus},
		securityCommand,
		{name: "events", help: "show the event loops: queues, handlers, latencies",
			example: "  godwit show events\n  godwit show events cpu router\n  godwit show events trace linecard-1",
			words:   eventViews, run: showEvents},
		{name: "drops", help: "show the named drop counters",
			words: []word{cardWord, {key: "all", help: "those at zero too"}}, run: showDrops},
		{name: "config", help: "show the configuration in force, without passwords", run: showConfig},
	}
}

// clearCommands are the words behind "clear".
func clearCommands() []command {
	return []command{
		{name: "neighbors", help: "forget learned ARP and ND entries",
			words: []word{vrfWord, {key: "interface", value: "NAME", help: "on this interface", fill: interfaceNames}, {value: "ADDRESS", help: "this one"}},
			run:   shown(clearNeighbors, textDone)},
		{name: "events", help: "set the figures of the event loops to zero",
			words: []word{{value: "MODULE", help: "of this module only", fill: moduleNames}}, run: shown(clearEvents, textDone)},
	}
}

// resetCommands are the words behind "reset".
func resetCommands() []command {
	return []command{
		{name: "bgp", help: "reset the session with a peer",
			words: []word{vrfWord, {value: "ADDRESS", help: "the peer", need: true}, {key: "soft", help: "exchange the routes again, keep the session"}},
			run:   shown(resetBGP, textDone)},
	}
}

// requestFIBCommands are the words behind "request fib".
func requestFIBCommands() []command {
	return []command{
		{name: "trace", help: "ask the line cards what they would do with a packet: lookup, group, member, neighbor, egress",
			example: "  godwit request fib trace vrf red 192.0.2.1\n  godwit request fib trace vrf red 192.0.2.1 from 10.0.1.2 protocol tcp port 443",
			words: []word{{key: "vrf", value: "NAME", help: "the VRF; default: default", fill: vrfNames}, {value: "ADDRESS", help: "the packet's destination", need: true},
				{key: "from", value: "ADDRESS", help: "its source, for the flow hash"},
				{key: "protocol", value: "WORD", help: "tcp, udp or a number; with a port udp"},
				{key: "source-port", value: "N", help: "its source port"}, {key: "port", value: "N", help: "its destination port"},
				{key: "card", value: "N", help: "received by this line card only"}},
			run: shown(askFIBTrace, textFIBTrace)},
	}
}

// requestCommands are the words behind "request", but "fib".
func requestCommands() []command {
	return []command{
		{name: "upgrade", help: "start a module again from its file, or from another one that takes its place; verified before anything is changed",
			example: "  godwit request upgrade linecard-1\n  godwit request upgrade linecard-1 file /root/godwit-linecard",
			words: []word{{value: "MODULE", help: "the module", need: true, fill: moduleNames},
				{key: "file", value: "FILE", help: "a signed file on the router; the old one stays beside it as FILE.old"}},
			run: shown(requestUpgrade, textDone)},
	}
}

// plainCommands are the commands of one word.
func plainCommands() []command {
	return []command{
		{name: "check", help: "check a configuration file and say what applying it would change; no router is needed",
			words: []word{{value: "FILE", help: "a YAML file, - for standard input", need: true}}, run: check},
		{name: "apply", help: "put a configuration into force: all of it, or with a fault nothing",
			words: []word{{value: "FILE", help: "a YAML file, - for standard input", need: true}}, run: apply},
		{name: "ping", help: "send echo requests from the host stack of a VRF",
			example: "  godwit ping vrf red 192.0.2.1 count 3",
			words: []word{{key: "vrf", value: "NAME", help: "the VRF; default: default", fill: vrfNames}, {value: "ADDRESS", help: "whom to ask", need: true},
				{key: "count", value: "N", help: "how many; default 5"}, {key: "size", value: "BYTES", help: "payload; default 56"},
				{key: "interval", value: "TIME", help: "between two; default 1s"}, {key: "timeout", value: "TIME", help: "for an answer; default 1s"},
				{key: "source", value: "ADDRESS", help: "an address of the router"},
				{key: "ttl", value: "N", help: "time to live"}, {key: "df", help: "don't fragment"}},
			run: ping},
		{name: "capture", help: "capture the frames of an interface as pcap",
			example: "  godwit capture interface red-up count 100 write red-up.pcap\n  godwit capture interface red-up protocol tcp port 179 | tcpdump -nr -",
			words: append([]word{{key: "interface", value: "NAME", help: "the interface", need: true, fill: interfaceNames},
				{key: "count", value: "N", help: "stop after so many frames"}, {key: "snap", value: "BYTES", help: "keep so much of a frame"},
				{key: "write", value: "FILE", help: "to this file; default: standard output"}}, matchWords()...),
			run: capture},
		{name: "shell", help: "read commands from the terminal, with completion and history", run: shell},
	}
}

func protocols(context.Context, *Env) []string {
	return []string{"local", "connected", "static", "bgp", "leaked"}
}

func vrfNames(ctx context.Context, e *Env) []string {
	v, err := e.client.VRFs(ctx)
	if err != nil {
		return nil
	}
	return collect(v.VRFs, func(v mgmt.VRF) string { return v.Name })
}

func interfaceNames(ctx context.Context, e *Env) []string {
	v, err := e.client.Interfaces(ctx, "")
	if err != nil {
		return nil
	}
	return collect(v.Interfaces, func(i mgmt.Interface) string { return i.Name })
}

func moduleNames(ctx context.Context, e *Env) []string {
	v, err := e.client.Modules(ctx)
	if err != nil {
		return nil
	}
	names := []string{"supervisor"}
	for _, m := range v.Modules {
		names = append(names, m.Name)
	}
	return names
}

func collect[T any](items []T, f func(T) string) []string {
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = f(item)
	}
	return out
}
