# Stands in for debconf's Debconf::Client::ConfModule while an image is configured, as `confmodule` does for shell scripts.
package Debconf::Client::ConfModule;
use strict;
use warnings;

my %values;
if (open my $defaults, '<', '/var/lib/webvm/defaults') {
    while (<$defaults>) {
        chomp;
        my ($name, $value) = split /\t/, $_, 2;
        $values{$name} //= $value;
    }
}

my %does = (
    get  => sub { $values{$_[0]} // '' },
    set  => sub { $values{$_[0]} = $_[1]; '' },
    fget => sub { 'false' },
);
my @idle = qw(version capb input go fset subst reset register unregister purge metaget title settitle block endblock
    beginblock progress info data stop previous_module x_loadtemplatefile);

sub import {
    my $caller = caller;
    for my $name (keys %does, @idle) {
        my $code = $does{$name} || sub { '' };
        no strict 'refs';
        *{"${caller}::$name"} = sub {
            my $value = $code->(@_);
            return wantarray ? (0, $value) : $value;
        };
    }
    return;
}

1;
