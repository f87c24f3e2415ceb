"""Oracles: powerlaw 2.0, scipy's minimisers and laws, the table of Clauset, Shalizi & Newman (2009)."""

import importlib.util
import math
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import powerlaw
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import norm, weibull_min

import htlib as ht
from tests.refusals import refused

DATA = Path(importlib.util.find_spec("powerlaw").origin).parent / "reference_data"


def with_cutoff(rng, N):
    """Density x^(-1.5) exp(-x / 50) above 1, by rejection."""
    x = (1 - rng.uniform(size=40 * N)) ** (-2)
    return x[rng.uniform(size=len(x)) < np.exp(-(x - 1) / 50)][:N]


SAMPLES = {  # tails above 1
    "pareto": lambda rng, N: rng.pareto(1.5, N) + 1,
    "lognormal": lambda rng, N: np.exp(np.abs(rng.standard_normal(N))),
    "exponential": lambda rng, N: 1 + rng.exponential(size=N),
    "weibull": lambda rng, N: (1 + rng.exponential(size=N)) ** (1 / 0.6),
    "cutoff": with_cutoff,
}


def compared(name, N=500, seed=0):
    values = SAMPLES[name](np.random.default_rng(seed), N)
    fit = ht.fit_power_law(values, xmin=1.0)
    return values, fit, ht.compare_distributions(values, fit)


@pytest.mark.parametrize("name", SAMPLES)
def test_agrees_with_powerlaw(name):
    """Our maximum never lies below; where theirs is within 1e-6 of it, ratios agree to its root, 1e-3."""
    values, _, table = compared(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # powerlaw's own
        fit = powerlaw.Fit(values, xmin=1.0, parameter_ranges={"alpha": [1, None]}, verbose=False)
        theirs = {}
        for law in table.index:
            pair = {"dist1": "power_law", "dist2": law, "nested": law == "truncated_power_law" or None}
            ratio, _ = fit.distribution_compare(**pair)
            theirs[law] = (ratio, *fit.distribution_compare(**pair, normalized_ratio=True))
    for law, (ratio, normalized, p) in theirs.items():
        ours = table.loc[law]
        assert ours.log_likelihood_ratio <= ratio + 1e-6  # the alternative's maximum is not below theirs
        assert ours.log_likelihood_ratio == pytest.approx(ratio, abs=1e-3) or law == "stretched_exponential"
        if ratio - ours.log_likelihood_ratio < 1e-6:
            assert ours.normalized_ratio == pytest.approx(normalized, abs=1e-3)
            assert ours.p_value == pytest.approx(p, rel=2e-3, abs=1e-9)


# log densities of values above xmin, from scipy's laws, with the parameters of the table


def log_lognormal(x, xmin, mu, sigma):
    return norm.logpdf(np.log(x), mu, sigma) - np.log(x) - norm.logsf(math.log(xmin), mu, sigma)


def log_exponential(x, xmin, rate):
    return math.log(rate) - rate * (x - xmin)


def log_stretched(x, xmin, rate, beta):
    scale = xmin * rate ** (-1 / beta)
    return weibull_min.logpdf(x, beta, scale=scale) - weibull_min.logsf(xmin, beta, scale=scale)


def log_truncated(x, xmin, alpha, rate):
    z, _ = quad(
        lambda y: y**-alpha * np.exp(-rate * xmin * (y - 1)), 1, np.inf, epsabs=0, epsrel=1e-11, limit=200
    )
    return -alpha * np.log(x / xmin) - rate * (x - xmin) - math.log(z) - math.log(xmin)


# law: its density, the parameters from numbers without bounds, and starts
LAWS = {
    "lognormal": (log_lognormal, lambda v: (v[0], np.exp(v[1])), [(0, 0), (-3, 1), (4, 0.5)]),
    "exponential": (log_exponential, lambda v: (np.exp(v[0]),), [(0,), (-5,)]),
    "stretched_exponential": (log_stretched, np.exp, [(0, 0), (-2, -1), (1, -0.7)]),
    "truncated_power_law": (
        log_truncated,
        lambda v: (1 + v[0] ** 2, np.exp(v[1])),
        [(1, -3), (0.3, -1), (1.2, -7)],
    ),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", [*SAMPLES, "blackouts", "flares"])
def test_maximum_is_not_below_scipys(name, law):
    """Nelder-Mead from several starts.  The parameters given must reproduce the likelihood, to quadrature."""
    if name in SAMPLES:
        tail, fit, table = compared(name)
    else:
        values = np.loadtxt(DATA / f"{name}.txt")
        fit = ht.fit_power_law(values)
        tail, table = values[values >= fit.xmin], ht.compare_distributions(values, fit)
    x = tail / fit.xmin  # the search works near one
    density, parameters, starts = LAWS[law]
    power = (math.log(fit.alpha - 1) - fit.alpha * np.log(x)).sum()
    ours = power - table.log_likelihood_ratio[law]

    def loss(v):
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # quad's, far from the maximum
            value = -density(x, 1.0, *parameters(np.asarray(v, dtype=float))).sum()
        return value if np.isfinite(value) else 1e300

    options = {"xatol": 1e-6, "fatol": 1e-8, "maxiter": 400}
    best = min(minimize(loss, start, method="Nelder-Mead", options=options).fun for start in starts)
    assert ours >= -best - 1e-6 * max(1, abs(ours) * 1e-3)
    # and not above the law's own maximum: at the parameters given, the law has this likelihood
    given = table.parameters[law]
    shifted = density(tail, fit.xmin, *given.values()).sum() + len(tail) * math.log(fit.xmin)
    assert shifted == pytest.approx(ours, rel=1e-7, abs=1e-6)


def test_vuong_by_hand():
    """Tail 1, 2, 4, 8: the exponential's rate is 1 / 2.75; ratio over sqrt(n) times the terms' spread."""
    values = np.array([1.0, 2.0, 4.0, 8.0])
    fit = ht.fit_power_law(values, xmin=1.0)
    s = 4 / math.log(64)
    terms = np.log(s) - (s + 1) * np.log(values) - (np.log(1 / 2.75) - (values - 1) / 2.75)
    row = ht.compare_distributions(values, fit).loc["exponential"]
    assert row.log_likelihood_ratio == pytest.approx(terms.sum(), rel=1e-12)
    assert row.normalized_ratio == pytest.approx(terms.sum() / (2 * terms.std()), rel=1e-12)
    assert row.p_value == pytest.approx(2 * norm.sf(abs(row.normalized_ratio)), rel=1e-12)
    assert row.parameters == {"lambda": pytest.approx(1 / 2.75)}


@pytest.mark.parametrize("law", ["exponential", "lognormal"])
def test_power_law_is_not_favoured_where_it_is_wrong(law):
    """Negative control: 10 samples of 1000, each many standard errors away."""
    for seed in range(10):
        _, _, table = compared(law, 1000, seed)
        assert table.favours[law] == law
        assert table.normalized_ratio[law] < -3
        if law == "exponential":
            assert "power_law" not in set(table.favours)


def test_pareto_is_not_rejected():
    """At the level .1 a two-sided test errs in at most .1 of samples: binomial, 40 draws, 4 deviations."""
    tables = [compared("pareto", 300, seed)[2] for seed in range(40)]
    for law in ("lognormal", "stretched_exponential", "truncated_power_law"):
        assert all(table.log_likelihood_ratio[law] <= 0 for table in tables)  # a limit of each is the law
        assert sum(table.favours[law] == law for table in tables) < 40 * 0.1 + 4 * math.sqrt(40 * 0.09)
    assert sum(table.favours["exponential"] == "power_law" for table in tables) > 20
    assert all(table.favours["exponential"] != "exponential" for table in tables)


@pytest.mark.parametrize("name", ["lognormal", "weibull", "cutoff"])
def test_ratios_do_not_depend_on_scale_or_order(name):
    """A "lambda" goes as 1 / scale, mu as its logarithm; maxima are flat: 1e-5 in them is 1e-4 beside."""
    values, _, table = compared(name)
    scaled = 1e9 * values[::-1]
    other = ht.compare_distributions(scaled, ht.fit_power_law(scaled, xmin=1e9))
    columns = ["log_likelihood_ratio", "normalized_ratio"]
    np.testing.assert_allclose(other[columns], table[columns], rtol=1e-5)
    for law, given in table.parameters.items():
        for key, value in given.items():
            found = other.parameters[law][key]
            expected = value + 9 * math.log(10) if key == "mu" else value / 1e9 if key == "lambda" else value
            assert found == pytest.approx(expected, rel=1e-4)


def test_tail_heavier_than_a_power_law_leaves_the_limits():
    """ln x a mixture of exponentials, E u^2 > 2 (E u)^2: three of the laws become their limit."""
    u = -np.log(1 - (np.arange(2000) + 0.5) / 2000)
    values = np.exp(np.concatenate([u / 10, u]))
    fit = ht.fit_power_law(values, xmin=1.0)
    table = ht.compare_distributions(values, fit).drop(index="exponential")
    assert (table[["log_likelihood_ratio", "normalized_ratio"]] == 0).all(axis=None)
    assert (table.p_value == 1).all()
    assert (table.favours == "neither").all()
    assert table.parameters["truncated_power_law"] == {"alpha": pytest.approx(fit.alpha), "lambda": 0}
    assert table.parameters["lognormal"]["sigma"] == math.inf


def test_table_is_labelled():
    _, _, table = compared("pareto")
    assert list(table.index) == list(LAWS)
    assert " ".join(table) == "log_likelihood_ratio normalized_ratio p_value favours parameters"
    assert table.index.name == "alternative"


def test_fits_of_other_values_are_refused():
    values = SAMPLES["pareto"](np.random.default_rng(0), 100)
    fit = ht.fit_power_law(values)
    for others in (values * 1.01, values[:3], np.sort(values)[:-1]):
        with refused("fit", "eigenvalues", fit.n_tail):
            ht.compare_distributions(others, fit)
    with refused("eigenvalues", "xmin = 1.5", "all 2"):  # a lognormal may be as narrow as it likes
        ht.compare_distributions([1.0, 2.0, 2.0, 2.0], ht.fit_power_law([1.0, 2.0, 2.0, 2.0], xmin=1.5))


HARD = {  # tails on which a search from one start ends early or leaves its bounds
    "heavy": lambda rng, N: rng.pareto(rng.uniform(0.05, 1), N) + 1,
    "light": lambda rng, N: rng.pareto(rng.uniform(1, 3), N) + 1,
    "lognormal": lambda rng, N: np.exp(rng.normal(0, rng.uniform(0.1, 6), N)),
    "gamma": lambda rng, N: rng.gamma(rng.uniform(0.2, 9), size=N) + 1e-12,
    "narrow": lambda rng, N: 1 + 10 ** rng.uniform(-6, -2) * rng.uniform(size=N),
    "far bump": lambda rng, N: np.append(1e-3, np.exp(rng.normal(0, 0.05, N))),
    "matrix": lambda rng, N: ht.esd(rng.standard_normal((N, N))),
}
TILTS = {"lognormal": lambda t: t**2 / 2, "truncated_power_law": np.expm1}


def log_z(s, c, h, room):
    """Quadrature of exp(-s t - c h(t)), which is concave, piece by piece around its maximum."""
    grid = np.append(0, np.geomspace(1e-9, min(room, 1e4), 400))
    with np.errstate(over="ignore"):
        exponent = -s * grid - c * h(grid)
    top = exponent.max()
    reach = grid[exponent > top - 40]
    end = grid[min(len(grid) - 1, int(np.searchsorted(grid, reach[-1])) + 1)]
    edges = np.unique(np.append(np.linspace(0, end, 4), reach[::40]))
    pieces = [
        quad(lambda t: np.exp(-s * t - c * h(t) - top), *edge, epsabs=0, epsrel=1e-9)[0]
        for edge in pairwise(edges)
    ]
    return top + math.log(sum(pieces))


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("law", TILTS)
def test_no_likelihood_is_higher(law, kind):
    """Nelder-Mead from two starts on scipy's quadrature; every other sample has an upper bound."""
    h, gains = TILTS[law], []
    for seed, N in enumerate([30, 12, 100]):
        rng = np.random.default_rng([seed, *kind.encode()])
        values = np.sort(HARD[kind](rng, N))
        fit = ht.fit_power_law(values, values[0], values[-1] * 1.1 if seed % 2 else None)
        t, room = np.log(values / values[0]), math.log(fit.xmax / fit.xmin)
        power = np.log(fit.pdf(values) * values).sum()
        squared = law == "truncated_power_law" and math.isinf(room)  # alpha >= 1

        def loss(v, t=t, room=room, squared=squared):
            s, c = v[0] ** 2 if squared else v[0], math.exp(min(v[1], 300))
            return s * t.sum() + c * h(t).sum() + len(t) * log_z(s, c, h, room)

        s = fit.alpha - 1
        starts = [(math.sqrt(s) if squared else s, -math.log(h(t).mean()) - 5), (0, -math.log(h(t).mean()))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # quad's, far from the maximum
            best = -min(minimize(loss, x, method="Nelder-Mead", options={"maxiter": 80}).fun for x in starts)
        ours = power - ht.compare_distributions(values, fit).log_likelihood_ratio[law]
        assert ours >= best - 1e-6
        gains.append(best - power)
    # negative control: where the samples are no power laws, returning its likelihood would have failed
    assert max(gains) > 1e-3 or kind in ("heavy", "light", "narrow")


def test_many_pareto_samples_of_infinite_mean_and_a_bound_at_alpha_one():
    """Quadrature at alpha = 1 bounds the maximum from below; a search that leaves from there ends early."""
    for seed in range(40):
        values = np.random.default_rng(seed).pareto(0.5, 100) + 1
        table = ht.compare_distributions(values, ht.fit_power_law(values))
        assert (table.drop(index="exponential").log_likelihood_ratio <= 0).all()
    values = np.exp(np.random.default_rng(0).normal(0, 3, 100))
    fit = ht.fit_power_law(values, values.min())
    row = ht.compare_distributions(values, fit).loc["truncated_power_law"]
    t = np.log(values / fit.xmin)
    rates = -np.log(np.expm1(t).mean()) - np.linspace(0, 6, 13)
    best = max(
        -math.exp(r) * np.expm1(t).sum() - 100 * log_z(0, math.exp(r), np.expm1, np.inf) for r in rates
    )
    power = (math.log(fit.alpha - 1) - (fit.alpha - 1) * t).sum()
    assert row.log_likelihood_ratio <= power - best < -30


def test_stretched_exponential_of_a_narrow_tail():
    """A tail from 1 to 1.001 has its best beta in the thousands; a grid over beta, rate in closed form."""
    values = 1 + 1e-3 * np.random.default_rng(0).random(1000)
    fit = ht.fit_power_law(values, values.min())
    t = np.log(values / fit.xmin)
    ratios = {}
    for beta in np.geomspace(50, 5e5, 100):
        grown = np.expm1(beta * t)
        rate = 1 / grown.mean()
        logs = np.log(beta * rate) + beta * t - rate * grown
        ratios[beta] = (np.log(fit.alpha - 1) - (fit.alpha - 1) * t - logs).sum()
    row = ht.compare_distributions(values, fit).loc["stretched_exponential"]
    assert row.log_likelihood_ratio <= min(ratios.values())
    assert row.parameters["beta"] == pytest.approx(min(ratios, key=ratios.get), rel=0.1)  # the grid's step


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", SAMPLES)
def test_bounded_laws_are_the_laws_above_the_threshold_over_their_mass(name, law):
    """Their mass in 1..xmax by quadrature; at the parameters given the likelihood is the table's, and no
    step of a tenth from there raises it (it is concave, or has one maximum)."""
    values = SAMPLES[name](np.random.default_rng(1), 300)
    fit = ht.fit_power_law(values, xmin=1.0, xmax=6.0)
    values = values[values <= 6]
    row = ht.compare_distributions(values, fit).loc[law]
    density = LAWS[law][0]

    def likelihood(given):
        mass = quad(lambda u: math.exp(u + density(math.exp(u), 1.0, *given)), 0, math.log(6))[0]
        return density(values, 1.0, *given).sum() - len(values) * math.log(mass)

    given = np.array([*row.parameters.values()])
    if not np.isfinite(given).all() or given[-1] <= 0:  # the limit, or a law without a mass above the bound
        return
    ours = np.log(fit.pdf(values)).sum() - row.log_likelihood_ratio
    assert likelihood(given) == pytest.approx(ours, rel=1e-6, abs=1e-5)
    for k in range(len(given)):
        for factor in (0.9, 1.1):
            moved = given * np.where(np.arange(len(given)) == k, factor, 1)
            assert likelihood(moved) <= ours + 1e-6


def test_extreme_tails_are_compared():
    """Nearly all values at the bound, and a range of 600 decades: no warning, and only finite ratios."""
    for values, xmax in (([1.0] + [100.0] * 2000, 100.0), ([1e-300, 1.0, 1e100, 1e300], None)):
        table = ht.compare_distributions(values, ht.fit_power_law(values, min(values), xmax))
        assert np.isfinite(table.log_likelihood_ratio).all()
        assert (table.drop(index="exponential").log_likelihood_ratio <= 0).all()


def test_a_bound_far_away_does_not_change_a_comparison():
    """The maximum is flat: beta is found to the root of rounding, 1e-8, and p is ten times as sensitive."""
    values, _, free = compared("lognormal")
    bounded = ht.compare_distributions(values, ht.fit_power_law(values, xmin=1.0, xmax=1e60))
    laws = ["lognormal", "exponential", "stretched_exponential"]  # alpha of the other may be below one
    columns = ["log_likelihood_ratio", "normalized_ratio", "p_value"]
    np.testing.assert_allclose(bounded.loc[laws, columns], free.loc[laws, columns], rtol=1e-5)


PUBLISHED = [
    # normalised ratios; half a unit of the last digit
    ("flares", 1, "lognormal", "normalized_ratio", -0.803, 0.0015),
    ("fires", 1, "lognormal", "normalized_ratio", -1.78, 0.005),
    ("fires", 1, "stretched_exponential", "normalized_ratio", -1.82, 0.005),
    # three that differ from print in the last digits, for whatever reason: the maxima found here are those
    # of powerlaw and scipy on the same data
    ("blackouts", 1e3, "lognormal", "normalized_ratio", -0.412, 0.005),
    ("quakes", 1e3, "lognormal", "normalized_ratio", -7.14, 0.07),
    ("quakes", 1e3, "stretched_exponential", "normalized_ratio", -7.09, 0.07),
    # ratios as they are, of the law with a cutoff
    ("blackouts", 1e3, "truncated_power_law", "log_likelihood_ratio", -0.382, 0.0005),
    ("flares", 1, "truncated_power_law", "log_likelihood_ratio", -4.52, 0.005),
    ("fires", 1, "truncated_power_law", "log_likelihood_ratio", -5.02, 0.005),
    ("quakes", 1e3, "truncated_power_law", "log_likelihood_ratio", -24.4, 0.05),
    ("blackouts", 1e3, "truncated_power_law", "p_value", 0.38, 0.005),
    ("flares", 1, "truncated_power_law", "p_value", 0.00, 0.005),
]


@pytest.fixture(scope="module")
def published_tables():
    tables = {}
    for name, unit in {(name, unit) for name, unit, *_ in PUBLISHED}:
        values = np.loadtxt(DATA / f"{name}.txt") / unit
        tables[name] = ht.compare_distributions(values, ht.fit_power_law(values))
    return tables


@pytest.mark.parametrize(("name", "unit", "law", "column", "printed", "tolerance"), PUBLISHED)
def test_clauset_shalizi_newman_ratios(published_tables, name, unit, law, column, printed, tolerance):
    assert published_tables[name].loc[law, column] == pytest.approx(printed, abs=tolerance)
