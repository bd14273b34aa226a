package main

import "testing"

func TestMedianIsTheMiddleOrTheMeanOfTheTwoInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		of   series
		want float64
	}{
		{nil, 0},
		{series{3}, 3},
		{series{9, 1, 5}, 5},
		{series{4, 1, 9, 2}, 3},
	} {
		if got := c.of.median(); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.of, got, c.want)
		}
	}
}
