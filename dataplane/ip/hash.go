package ip

import "godwit/fib"

// HashPlan says what the flow hash looks at in each VRF. Immutable.
type HashPlan struct{ byVRF []fib.HashFields }

const maxVRF = 1<<16 - 1 // the tables have no more

// NewHashPlan makes a plan; VRFs that are not in it hash the 5-tuple.
func NewHashPlan(fields map[fib.VRF]fib.HashFields) *HashPlan {
	h := &HashPlan{}
	for v, f := range fields {
		if f == 0 || v > maxVRF {
			continue
		}
		for int(v) >= len(h.byVRF) {
			h.byVRF = append(h.byVRF, 0)
		}
		h.byVRF[v] = f
	}
	return h
}

// Fields is what the hash of a packet of the VRF looks at.
func (h *HashPlan) Fields(v fib.VRF) fib.HashFields {
	if int(v) >= len(h.byVRF) {
		return 0
	}
	return h.byVRF[v]
}
