# A web server with one page, for an image that has none: /site/index.html. The demo and the benchmark of projects put it there.
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalPort => 80, Listen => 9, ReuseAddr => 1) or die $!;
while (my $client = $server->accept) {
    open my $page, '<', '/site/index.html';
    print $client "HTTP/1.0 200 OK\r\n\r\n", <$page>;
    close $client;
}
