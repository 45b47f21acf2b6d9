# A line between two TUN devices, opened as file descriptors 3 and 4: so many bits a second and milliseconds each way,
# with a queue of 100 ms before it. What does not fit is lost, as on a router.
use strict;
use warnings;
use Fcntl;
use Time::HiRes qw(time);

my ($megabits, $milliseconds) = @ARGV;
my ($rate, $delay) = ($megabits * 1e6 / 8, $milliseconds / 1e3);
my @end;
for my $fd (3, 4) {
    open(my $tun, '+<&=', $fd) or die "descriptor $fd: $!";
    # TUNSETIFF with IFF_TUN and IFF_NO_PI.
    my $request = pack('a16 s x22', 'line', 0x1001);
    ioctl($tun, 0x400454ca, $request) or die "TUNSETIFF: $!";
    fcntl($tun, F_SETFL, fcntl($tun, F_GETFL, 0) | O_NONBLOCK) or die "O_NONBLOCK: $!";
    push @end, $tun;
}
$| = 1;
print "ready\n";
my @queue = ([], []);
my @busy  = (0, 0);
my $ready = '';
vec($ready, fileno($_), 1) = 1 for @end;
while (1) {
    my ($now, $wait) = (time, 1);
    for my $from (0, 1) {
        my $queue = $queue[$from];
        while (@$queue && $queue->[0][0] <= $now) {
            syswrite($end[1 - $from], (shift @$queue)->[1]);
        }
        $wait = $queue->[0][0] - $now if @$queue && $queue->[0][0] - $now < $wait;
    }
    select(my $here = $ready, undef, undef, $wait < 0 ? 0 : $wait);
    for my $from (0, 1) {
        for (1 .. 64) {
            my $packet;
            last unless sysread($end[$from], $packet, 65536);
            my $now = time;
            $busy[$from] = $now if $busy[$from] < $now;
            next if $busy[$from] - $now > 0.1;
            $busy[$from] += length($packet) / $rate;
            push @{$queue[$from]}, [$busy[$from] + $delay, $packet];
        }
    }
}
