package ethernet

import (
	"net/netip"
	"testing"

	"godwit/fib"
)

func good(n uint16, vlan uint16) Interface {
	return Interface{ID: fib.MakeInterfaceID(3, n), Name: "x", Port: fib.MakePortID(3, 500), VLAN: vlan, MTU: 1500,
		MAC: [6]byte{2, 0, 0, 0, 0, 9}, Up: true, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/30"), netip.MustParsePrefix("10.9.0.1/31"), netip.MustParsePrefix("fe80::7/64")}}
}

func TestTable(t *testing.T) {
	slots := NewSlots()
	list := []Interface{good(1, 0), good(65535, 4094), good(256, 1)}
	list[2].Port = fib.MakePortID(3, 65535)
	table, err := NewTable(3, list, slots)
	if err != nil {
		t.Fatal(err)
	}
	for i, in := range list {
		e := table.Demux(in.Port, in.VLAN)
		if e == nil || e.ID != in.ID || table.Out(in.ID) != e || table.Slot(e.Slot) != e || table.Ports[e.PortSlot] != in.Port {
			t.Errorf("interface %d: %+v", i, e)
		}
	}
	e := table.Out(list[0].ID)
	for a, want := range map[uint32]bool{0x0a000003: true, 0x0a000000: true, 0x0a000001: false, 0x0a090000: false, 0x0a090001: false} {
		if e.IsBroadcast(a) != want {
			t.Errorf("broadcast %#x: %v", a, !want)
		}
	}
	if !e.OwnLinkLocal(0xfe80<<48, 7) || e.OwnLinkLocal(0xfe80<<48, 8) {
		t.Error("link-local")
	}
	for _, none := range []*Entry{table.Demux(fib.MakePortID(3, 500), 5), table.Demux(fib.MakePortID(3, 1), 0), table.Demux(fib.MakePortID(3, 65535), 0),
		table.Demux(fib.MakePortID(3, 500), 5000), table.Out(fib.MakeInterfaceID(4, 1)), table.Out(fib.MakeInterfaceID(3, 2)), table.Slot(0), table.Slot(99)} {
		if none != nil {
			t.Errorf("found %+v", none)
		}
	}
	// Slots stay, whatever comes and goes.
	again, err := NewTable(3, []Interface{good(7, 7), list[2]}, slots)
	if err != nil {
		t.Fatal(err)
	}
	if again.Out(list[2].ID).Slot != table.Out(list[2].ID).Slot || again.Slot(table.Out(list[0].ID).Slot) != nil || again.Slots() != 5 {
		t.Errorf("slots %d", again.Slots())
	}
	n := 0
	for e := range again.All {
		n++
		_ = e
	}
	if n != 2 {
		t.Errorf("%d interfaces", n)
	}
}

func TestTableRefuses(t *testing.T) {
	for name, edit := range map[string]func(*Interface){
		"other card": func(i *Interface) { i.ID = fib.MakeInterfaceID(4, 9) }, "number 0": func(i *Interface) { i.ID = fib.MakeInterfaceID(3, 0) },
		"port of another card": func(i *Interface) { i.Port = fib.MakePortID(4, 9) }, "vlan 4095": func(i *Interface) { i.VLAN = 4095 },
		"mtu 67": func(i *Interface) { i.MTU = 67 }, "mtu 65536": func(i *Interface) { i.MTU = 65536 },
		"no mac": func(i *Interface) { i.MAC = [6]byte{} }, "group mac": func(i *Interface) { i.MAC[0] = 1 },
		"same id": func(i *Interface) { i.ID = fib.MakeInterfaceID(3, 1) }, "same tag": func(i *Interface) { i.VLAN = 0 },
	} {
		in := good(2, 8)
		edit(&in)
		if _, err := NewTable(3, []Interface{good(1, 0), in}, NewSlots()); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
