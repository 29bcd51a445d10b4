package xdp

import "testing"

func TestExpressLoads(t *testing.T) {
	x, err := NewExpress()
	if err != nil {
		t.Fatalf("%+v", err)
	}
	if err := x.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("%d bytes", x.Bytes())
	if err := x.Close(); err != nil {
		t.Error(err)
	}
}
