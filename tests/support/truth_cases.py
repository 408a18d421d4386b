"""All cases of the truth table."""

from tests.support.truth_belonging import BELONGING
from tests.support.truth_calico import CALICO
from tests.support.truth_guides import GUIDES
from tests.support.truth_kubernetes import KUBERNETES
from tests.support.truth_recipes import RECIPES
from tests.support.truth_tiers import TIERS

CASES = [*KUBERNETES, *RECIPES, *CALICO, *GUIDES, *TIERS, *BELONGING]
