# inet_echo.pl HOST PORT MARKER: IO::Socket::INET with Timeout connects twice.
use strict;
use warnings;
use IO::Socket::INET;
my ($host, $port, $marker) = @ARGV;
my $s = IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port, Proto => "tcp", Timeout => 20)
    or die "connect: $@\n";
print $s "$marker\n";
print scalar(<$s>) eq "$marker\n" ? "intact\n" : "wrong\n";
