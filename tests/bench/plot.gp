# What plot.go has measured, drawn: folder, kind and file come from there.
if (kind eq "svg") {
	set terminal svg size 1500,960 font "DejaVu Sans,Verdana,sans-serif,15" background "white"
} else {
	set terminal pngcairo size 1500,960 font "DejaVu Sans,12" background "white"
}
set output file

# In the order of plotted (plot.go).
names = "tlswrap 'own OpenSSL' stunnel plaintext"
set linetype 1 lc rgb "#0055cc" lw 3   pt 7 ps 0.9
set linetype 2 lc rgb "#118833" lw 2   pt 5 ps 0.8
set linetype 3 lc rgb "#dd6600" lw 2   pt 9 ps 0.9
set linetype 4 lc rgb "#888888" lw 1.5 pt 4 ps 0.7

data(name) = sprintf("%s/performance-%s.dat", folder, name)
set style line 9 lc rgb "#cccccc" lw 0.8 dt 1
set grid xtics ytics ls 9
set border 3
set tics nomirror out
set logscale x 2
set key off

# The legend. Where set key puts it depends on the terminal.
do for [i=0:3] {
	set label 2+i word(names, i+1) at screen 0.28+0.13*i,0.945 left offset 1,0 textcolor lt i+1 point lt i+1
}

set multiplot layout 2,3 columnsfirst margins 0.065,0.985,0.08,0.88 spacing 0.075,0.13
set label 1 "tlswrap against the program's own OpenSSL, stunnel and plaintext: throughput above, processor time of the whole machine below" \
	at screen 0.5,0.975 center

connections = "set xlabel 'connections in use'; set xrange [1:1024]; set xtics 1,4,1024"
sizes = "set xlabel 'bytes in a message'; set xrange [64:1048576]; set xtics ('64' 64, '' 256, '1 Ki' 1024, '' 4096, '16 Ki' 16384, '' 65536, '256 Ki' 262144, '' 1048576)"
linear = "unset logscale y; set yrange [0:*]; set format y '%.0f'"
decades = "set logscale y 10; set yrange [*:*]; set format y '%g'"

@connections
@linear
set title "Requests for 1 KB"
set ylabel "thousands of requests/s"
plot for [i=0:3] data("requests") index i using 1:($2/1e3) with linespoints lt i+1
unset label
unset title
set ylabel "CPU µs/request"
plot for [i=0:3] data("requests") index i using 1:3 with linespoints lt i+1

set title "Messages of 64 KiB"
set ylabel "MB/s"
plot for [i=0:3] data("bulk") index i using 1:2 with linespoints lt i+1
unset title
set ylabel "CPU s/GB"
set format y '%.1f'
plot for [i=0:3] data("bulk") index i using 1:3 with linespoints lt i+1

@sizes
@decades
set title "Messages of many sizes, 8 connections"
set ylabel "MB/s (logarithmic)"
plot for [i=0:3] data("sizes") index i using 1:2 with linespoints lt i+1
unset title
set ylabel "CPU s/GB (logarithmic)"
plot for [i=0:3] data("sizes") index i using 1:3 with linespoints lt i+1
unset multiplot
