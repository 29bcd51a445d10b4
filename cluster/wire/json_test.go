package wire

import (
	"strings"
	"testing"
)

func TestDecodeIsStrict(t *testing.T) {
	var ack FIBAckBody
	if err := Decode([]byte(`{"epoch":7,"seq":8}`+"\n"), &ack); err != nil || ack != (FIBAckBody{Epoch: 7, Seq: 8}) {
		t.Errorf("got %+v, %v", ack, err)
	}
	for body, want := range map[string]string{
		``:                       "unexpected EOF",
		`{`:                      "unexpected EOF",
		`{"epoch":7,"sequel":8}`: `unknown field "sequel"`,
		`{"epoch":-1}`:           "cannot unmarshal",
		`{"epoch":7} {}`:         "data behind the value",
		`{"epoch":7}x`:           "data behind the value",
		`[]`:                     "cannot unmarshal",
	} {
		err := DecodeKind(FIBAck, []byte(body), &FIBAckBody{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "fib-ack: decode *wire.FIBAckBody") {
			t.Errorf("%q: error %v, want %q", body, err, want)
		}
	}
}

func TestEncodeComesBack(t *testing.T) {
	want := ModuleStatus{Name: "bgp-red", State: "running", PID: 7, Restarts: 3}
	b, err := Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	var got ModuleStatus
	if err := Decode(b, &got); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := Encode(func() {}); err == nil {
		t.Error("encoded a function")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"card":1,"workers":2,"fabric_dir":"/x","cards":[1,2],"vrfs":[{"id":1,"name":"red"}]}`))
	f.Add([]byte(`{"neighbors":[{"address":"192.0.2.1","mac":"02:00:00:00:00:01"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c CardConfig
		if Decode(b, &c) != nil {
			return
		}
		again, err := Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		var d CardConfig
		if err := Decode(again, &d); err != nil {
			t.Errorf("%s: %v", again, err)
		}
	})
}
