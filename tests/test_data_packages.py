"""Versions of packages are those that pip knows; a package that is not installed has none."""

import numpy

from data.packages import installed_version


def test_an_installed_package_has_the_version_that_it_gives_itself():
    assert installed_version("numpy") == numpy.__version__


def test_a_package_that_is_not_installed_has_no_version():
    assert installed_version("no-such-package-of-ours") is None
