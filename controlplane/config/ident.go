package config

import (
	"hash/fnv"

	"godwit/fib"
)

// DefaultVRFName is the VRF of interfaces that name none.
const DefaultVRFName = "default"

// number makes a number from 1 to 65,535 of a name (FNV-1a): the same after
// every restart without keeping state. Collisions are refused by validation.
func number(name string) uint16 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return uint16(1 + h.Sum32()%65535)
}

// VRFID is the number of the VRF with this name; the configuration has it.
func VRFID(c *Config, name string) fib.VRF {
	if v := c.VRF(name); v != nil {
		return v.Number()
	}
	return fib.VRF(number(name))
}

// Number is the VRF's number: its id, or one made from its name.
func (v *VRF) Number() fib.VRF {
	switch {
	case v.Name == DefaultVRFName:
		return fib.DefaultVRF
	case v.ID != 0:
		return fib.VRF(v.ID)
	}
	return fib.VRF(number(v.Name))
}

// InterfaceID is the number of the interface with this name, 0 if there is none.
func InterfaceID(c *Config, name string) fib.InterfaceID {
	if i := c.Interface(name); i != nil {
		return i.Number()
	}
	return 0
}

// Number is the interface's chassis-wide number.
func (i *Interface) Number() fib.InterfaceID {
	return fib.MakeInterfaceID(fib.CardID(i.Card), number(i.Name))
}

// PortID is the number of a device on a card.
func PortID(card uint16, device string) fib.PortID {
	return fib.MakePortID(fib.CardID(card), number(device))
}

// VRF finds a VRF by name, nil if there is none.
func (c *Config) VRF(name string) *VRF {
	for i := range c.VRFs {
		if c.VRFs[i].Name == name {
			return &c.VRFs[i]
		}
	}
	return nil
}

// Interface finds an interface by name, nil if there is none.
func (c *Config) Interface(name string) *Interface {
	for i := range c.Interfaces {
		if c.Interfaces[i].Name == name {
			return &c.Interfaces[i]
		}
	}
	return nil
}
